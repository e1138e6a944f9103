"""The provider against moto, which others wrote. Canaries show what moto does wrong, and fail once moto is fixed."""

from __future__ import annotations

import hashlib
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from moto import mock_aws

from providers.aws_provider_support import REGION, SECONDS, arn_of, assert_signed, make, opened, settings, signing_input
from sealwright.errors import ProviderKeyMissingError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import load_public_key
from sealwright_providers.aws import FACTORY
from sealwright_providers.aws.provider import AwsProvider

NAMES = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
MESSAGE = b"header.payload"


@pytest.fixture(scope="module")
def moto_server() -> Iterator[str]:
    """A real moto_server on its own port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                with urllib.request.urlopen(f"{url}/moto-api/", timeout=1):  # noqa: S310
                    break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(10)


async def create_describe_sign_and_find(provider: AwsProvider) -> None:
    for name in NAMES:
        mark = uuid.uuid4().hex
        made = await make(provider, name, moto=mark)
        assert name in made.algorithms
        assert await provider.describe(made.uri, timeout=SECONDS) == made
        algorithm, message = ALGORITHMS[name], signing_input(ALGORITHMS[name], 4096)
        assert_signed(made, algorithm, message, await provider.sign(made.uri, algorithm, message, timeout=20))
        assert list(await provider.find({"moto": mark}, timeout=20)) == [made.uri]
    missing = f"awskms:///arn:aws:kms:{REGION}:123456789012:key/{uuid.uuid4()}"
    with pytest.raises(ProviderKeyMissingError):
        await provider.describe(missing, timeout=SECONDS)


async def test_rs_and_es_keys_are_created_described_and_sign_on_a_moto_server(moto_server: str, transport: str) -> None:
    async with opened(moto_server, transport=transport, message="raw") as provider:
        await provider.check(timeout=SECONDS)
        await create_describe_sign_and_find(provider)


async def test_rs_and_es_keys_are_created_described_and_sign_on_moto_in_process() -> None:
    with mock_aws():
        provider = await FACTORY.open(settings(None, transport="boto3", message="raw"))
        assert isinstance(provider, AwsProvider)
        try:
            await create_describe_sign_and_find(provider)
        finally:
            await provider.aclose()


async def test_c47_canary_moto_hashes_a_digest_again(moto_server: str) -> None:
    """AWS signs the digest that it receives. moto signs the hash of the digest.

    On the day that this fails, moto is mended (getmoto/moto#10202): let the tests above use `message="digest"` too.
    """
    digest = hashlib.sha256(MESSAGE).digest()
    async with opened(moto_server, message="digest") as provider:
        made = await make(provider)
        raw = await provider.sign(made.uri, ALGORITHMS["ES256"], MESSAGE, timeout=SECONDS)
    key = load_public_key(made.public_key or b"")
    assert isinstance(key, ec.EllipticCurvePublicKey)
    with pytest.raises(InvalidSignature):
        key.verify(raw.value, MESSAGE, ec.ECDSA(hashes.SHA256()))
    key.verify(raw.value, digest, ec.ECDSA(hashes.SHA256()))


async def test_c31_canary_moto_salts_pss_with_the_maximum(moto_server: str) -> None:
    """AWS uses a salt as long as the hash (RFC 7518 §3.5).

    On the day that this fails, moto is mended: let the tests above sign with PS* too.
    """
    async with opened(moto_server, message="raw") as provider:
        made = await make(provider, "PS256")
        raw = await provider.sign(made.uri, ALGORITHMS["PS256"], MESSAGE, timeout=SECONDS)
    key = load_public_key(made.public_key or b"")
    assert isinstance(key, rsa.RSAPublicKey)

    def verify(salt: int) -> None:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
        key.verify(raw.value, MESSAGE, pss, hashes.SHA256())

    with pytest.raises(InvalidSignature):
        verify(32)
    verify(key.key_size // 8 - 32 - 2)


async def test_c48_canary_moto_signs_with_a_disabled_key(moto_server: str) -> None:
    """When this fails, moto is fixed. Then turn it into a test of disabled keys."""
    async with opened(moto_server, message="raw") as provider:
        made = await make(provider)
        client = boto3.client("kms", endpoint_url=moto_server, region_name="eu-west-1")
        try:
            client.disable_key(KeyId=arn_of(made).rpartition("/")[2])
            assert client.describe_key(KeyId=arn_of(made))["KeyMetadata"]["KeyState"] == "Disabled"
        finally:
            client.close()
        assert (await provider.sign(made.uri, ALGORITHMS["ES256"], MESSAGE, timeout=SECONDS)).value
