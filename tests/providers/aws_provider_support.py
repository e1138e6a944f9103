"""Shared by the tests of the `aws` provider."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import load_der_public_key

from sealwright.clock import SystemClock
from sealwright.jose import base64url
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.jose.jwk import load_public_key
from sealwright.jose.signatures import normalise, verify
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeyDescription, KeySpec, RawSignature
from sealwright_providers.aws import FACTORY
from sealwright_providers.aws.provider import AwsProvider
from sealwright_providers.aws.settings import AwsSettings

REGION = "eu-west-1"
ACCOUNT = "111122223333"
SECONDS = 5.0
ES256 = ALGORITHMS["ES256"]
HEADER = {
    name: base64url.encode(f'{{"alg":"{name}"}}'.encode())
    for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
}


def settings(endpoint: str | None, **more: Any) -> AwsSettings:
    return AwsSettings(region=REGION, endpoint_url=endpoint, **more)


@asynccontextmanager
async def opened(endpoint: str | None, **more: Any) -> AsyncIterator[AwsProvider]:
    """Open a provider as the service does."""
    provider = await FACTORY.open(settings(endpoint, **more))
    assert isinstance(provider, AwsProvider)
    try:
        yield provider
    finally:
        await provider.aclose()


def guarded(provider: AwsProvider, **more: Any) -> GuardedProvider:
    return GuardedProvider("aws-eu", provider, settings(None, **more), SystemClock())


def signing_input(algorithm: Algorithm, size: int = 0) -> bytes:
    """Return a JWS signing input, of a given size if any."""
    head = HEADER[algorithm.name] + "."
    payload = '{"sub":"a"}'
    encoded = base64url.encode(payload.encode())
    if size:
        # Any base64url characters will do, since bytes are signed.
        encoded = "e" * (size - len(head))
    return (head + encoded).encode()


def assert_signed(key: KeyDescription, algorithm: Algorithm, message: bytes, raw: RawSignature) -> None:
    """Check a signature with our own code and with PyJWT."""
    signature = normalise(raw.value, raw.encoding, algorithm)
    assert verify(load_public_key(key.public_key or b""), algorithm, message, signature)
    theirs = jwt.get_algorithm_by_name(algorithm.name)
    assert theirs.verify(message, load_der_public_key(key.public_key or b""), signature)
    assert raw.key_uri == key.uri


async def make(provider: AwsProvider, name: str = "ES256", **tags: str) -> KeyDescription:
    return await provider.create(KeySpec(algorithm=ALGORITHMS[name], tags=tags), timeout=20)


async def ask(provider: AwsProvider, operation: str, **fields: Any) -> dict[str, Any]:
    """Call an operation of the API that the provider does not use."""
    return (await provider._transport.call(operation, fields, timeout=SECONDS)).fields


def arn_of(key: KeyDescription) -> str:
    return key.uri.removeprefix("awskms:///")


async def took(awaitable: Any) -> tuple[BaseException | None, float]:
    """Return the error of an awaitable, and how long it took."""
    start = time.monotonic()
    try:
        await awaitable
    except Exception as e:  # noqa: BLE001 - the caller looks at it
        return e, time.monotonic() - start
    return None, time.monotonic() - start


SHORT = timedelta(seconds=1)
