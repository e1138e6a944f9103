"""The promises of the design that this code keeps so far: each fails when the promise is broken."""

from __future__ import annotations

import ast
import asyncio
import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import jwt
import pytest

import sealwright
import sealwright_providers
from sealwright.jose.jwk import Jwk
from sealwright.v1 import keys_pb2
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import QUICK_TIMING, document, quick_issuer
from support.service import Service, failure, running, until

ROOTS = [Path(package.__file__ or "").parent for package in (sealwright, sealwright_providers)]

PRIVATE = {
    "generate_private_key",
    "derive_private_key",
    "from_private_bytes",
    "from_seed_bytes",
    "private_bytes",
    "private_bytes_raw",
    "private_key",
    "private_numbers",
    "load_pem_private_key",
    "load_der_private_key",
    "load_ssh_private_key",
    "load_pkcs12",
    "load_key_and_certificates",
    "RSAPrivateNumbers",
    "EllipticCurvePrivateNumbers",
    "RSAPrivateKey",
    "EllipticCurvePrivateKey",
    "Ed25519PrivateKey",
    "GenerateDataKeyPair",
    "GetParametersForImport",
}
"""Names by which cryptography, and the KMS APIs, make, load or export private keys."""

TLS_FILES = {(name, "private_key") for name in ("settings.py", "certificates.py", "tls.py", "connection.py")}
"""`server.tls.private_key` is the name of a file that OpenSSL reads; it signs no token."""


def names_used(source: str) -> Iterator[str]:
    """Yield the names that a module uses; not what its comments and docstrings say."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                yield name
            case ast.alias(name=name):
                yield name.rpartition(".")[2]
            case ast.keyword(arg=str(name)):
                yield name


def modules() -> list[Path]:
    return [p for root in ROOTS for p in root.rglob("*.py") if "v1" not in p.parts]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.name))
def test_promise_1_no_code_makes_loads_or_exports_a_private_key(path: Path) -> None:
    used = {(path.name, n) for n in names_used(path.read_text()) if n in PRIVATE}
    assert used <= TLS_FILES


def test_promise_1_the_check_would_see_such_code() -> None:
    source = (
        "from cryptography.hazmat.primitives.asymmetric import ec as e\nkey = e.generate_private_key(e.SECP256R1())\n"
    )
    assert "generate_private_key" in set(names_used(source))


def test_promise_1_a_jwk_has_no_place_for_a_private_member() -> None:
    assert set(Jwk.__dataclass_fields__) == {"kid", "alg", "members"}
    fields = {f.name for f in keys_pb2.Key.DESCRIPTOR.fields}
    assert not fields & {"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv", "private_key"}


@pytest.mark.usefixtures("each_database")
async def test_promise_2_a_key_signs_only_after_it_has_been_published_for_its_lead(
    tmp_path: Path,
    emulator: AwsEmulator,
) -> None:
    async with running(document(tmp_path, emulator.endpoint, quick_issuer(), timing=QUICK_TIMING)) as service:
        first = (await service.sign()).kid
        await service.rotate(expected_kid=first)
        await until(lambda: _published(service, 3))
        seen = time.monotonic()
        young = ({*await service.published()} - {k.kid for k in (await service.list_keys())[:2]}).pop()
        # Retire the active key as soon as that is possible at all.
        while (kid := (await service.sign()).kid) != young:
            with contextlib.suppress(grpc.aio.AioRpcError):
                await service.rotate(expected_kid=kid)
            await asyncio.sleep(0.05)
        # S + 2 A + E + K of the configuration, less what it took to see the key.
        assert time.monotonic() - seen >= 3.8


@pytest.mark.usefixtures("each_database")
async def test_promise_3_a_kid_stays_until_its_last_token_has_expired(tmp_path: Path, emulator: AwsEmulator) -> None:
    quick = quick_issuer(max_lifetime="3s", default_lifetime="3s")
    async with running(document(tmp_path, emulator.endpoint, quick, timing=QUICK_TIMING)) as service:
        last = await service.sign()
        await service.rotate(expected_kid=last.kid)
        while time.time() < last.expire_time.seconds - 0.5:  # it must not expire while it is verified
            assert (await service.verify(last.token))["jti"] == last.jwt_id
            await asyncio.sleep(0.1)
        await until(lambda: _gone(service, last.kid))
        key = next(k for k in await service.list_keys() if k.kid == last.kid)
        assert key.state == keys_pb2.Key.STATE_WITHDRAWN
        assert key.withdraw_time.seconds >= last.expire_time.seconds


@pytest.mark.parametrize("fault", ["wrong_signature", "truncated_signature", "other_key"])
async def test_promise_4_what_is_no_signature_by_the_published_key_never_leaves(
    service: Service,
    emulator: AwsEmulator,
    caplog: pytest.LogCaptureFixture,
    fault: str,
) -> None:
    emulator.add_fault(fault, operation="Sign")
    refused = await failure(service.sign())
    assert (refused.code, refused.reason) == ("INTERNAL", "SIGNATURE_REJECTED")
    assert "ALARM" in caplog.text
    emulator.clear_faults()
    await service.verify((await service.sign()).token)


async def test_promise_4_c08_every_token_of_many_verifies(service: Service) -> None:
    keys = jwt.PyJWKSet.from_dict({"keys": list((await service.published()).values())})
    for signed in await asyncio.gather(*(service.sign() for _ in range(100))):
        jwt.decode(signed.token, keys[signed.kid], algorithms=["ES256"], issuer="https://id.example.com/payments")


async def test_promise_5_another_keys_answer_is_refused_even_if_its_signature_is_good(
    service: Service,
    emulator: AwsEmulator,
) -> None:
    for fault in ("other_key", "other_name"):
        emulator.add_fault(fault, operation="Sign", times=1)
        assert (await failure(service.sign())).reason == "SIGNATURE_REJECTED", fault


async def test_promise_5_only_immutable_key_arns_are_ever_signed_with(service: Service, emulator: AwsEmulator) -> None:
    for _ in range(5):
        await service.sign()
    references = {r.reference for r in emulator.requests if r.operation == "Sign"}
    assert references == {(await service.list_keys())[0].key_uri.removeprefix("awskms:///")}
    assert all(":key/" in str(r) and ":alias/" not in str(r) for r in references)


async def _published(service: Service, wanted: int) -> bool:
    return len(await service.published()) >= wanted


async def _gone(service: Service, kid: str) -> bool:
    return kid not in await service.published()
