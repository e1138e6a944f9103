"""What the tests of the `azure` provider share."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
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
from sealwright_providers.azure import FACTORY
from sealwright_providers.azure.provider import AzureProvider
from sealwright_providers.azure.settings import AzureSettings
from sealwright_testing.emulators.azure import AzureEmulator

SECONDS = 5.0
ES256 = ALGORITHMS["ES256"]
INTENT = "sealwright:intent"
PUBLIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K")


def options(emulator: AzureEmulator, secret_file: Path, **more: Any) -> dict[str, Any]:
    """Return the table of a configuration for an emulator, with the challenge's resource verified."""
    secret_file.write_text(emulator.identity.client_secret + "\n")
    return {
        "kind": "azure",
        "vault_url": emulator.vault_url,
        "credential": "client_secret",
        "tenant_id": emulator.identity.tenant,
        "client_id": emulator.identity.client_id,
        "client_secret_file": str(secret_file),
        "authority": emulator.endpoint,
        "ca_file": emulator.ca,
        **more,
    }


@asynccontextmanager
async def opened(emulator: AzureEmulator, directory: Path, **more: Any) -> AsyncIterator[AzureProvider]:
    """Open a provider as the service does."""
    provider = await FACTORY.open(AzureSettings.model_validate(options(emulator, directory / "secret", **more)))
    assert isinstance(provider, AzureProvider)
    try:
        yield provider
    finally:
        await provider.aclose()


def guarded(provider: AzureProvider) -> GuardedProvider:
    """Return the provider as the service has it."""
    return GuardedProvider("azure", provider, AzureSettings(vault_url="https://a.vault.azure.net"), SystemClock())


async def make(provider: AzureProvider, name: str = "ES256", **tags: str) -> KeyDescription:
    """Create a key."""
    return await provider.create(KeySpec(algorithm=ALGORITHMS[name], tags=tags), timeout=20)


def name_of(key: KeyDescription) -> str:
    return key.uri.split("/")[4]


def version_of(key: KeyDescription) -> str:
    return key.uri.split("/")[5]


def signing_input(algorithm: Algorithm, size: int = 0) -> bytes:
    """Return a JWS signing input, of a given size where one is named."""
    head = base64url.encode(f'{{"alg":"{algorithm.name}"}}'.encode())
    return f"{head}.{'e' * max(10, size - len(head) - 1)}".encode()


def assert_signed(key: KeyDescription, algorithm: Algorithm, message: bytes, raw: RawSignature) -> None:
    """Check a signature with our own code and with PyJWT."""
    signature = normalise(raw.value, raw.encoding, algorithm)
    assert verify(load_public_key(key.public_key or b""), algorithm, message, signature)
    theirs = jwt.get_algorithm_by_name(algorithm.name)
    assert theirs.verify(message, load_der_public_key(key.public_key or b""), signature)
    assert raw.key_uri == key.uri


async def took(awaitable: Any) -> tuple[BaseException | None, float]:
    """Return the error of something awaited, and how long it took."""
    start = time.monotonic()
    try:
        await awaitable
    except Exception as e:  # noqa: BLE001 - the caller looks at it
        return e, time.monotonic() - start
    return None, time.monotonic() - start
