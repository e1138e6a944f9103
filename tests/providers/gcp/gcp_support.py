"""What the tests of the `gcp` provider share."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from sealwright.clock import SystemClock
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.jose.jwk import load_public_key
from sealwright.jose.signatures import normalise, verify
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeyDescription, KeySpec, RawSignature
from sealwright_providers.gcp import FACTORY
from sealwright_providers.gcp.algorithms import KMS_ALGORITHMS
from sealwright_providers.gcp.provider import GcpProvider
from sealwright_providers.gcp.settings import GcpSettings
from sealwright_testing.emulators.gcp import GcpEmulator

SECONDS = 10.0
ES256 = ALGORITHMS["ES256"]
OURS = [a for a in ALGORITHMS.values() if a.name in KMS_ALGORITHMS]
"""Algorithms that Cloud KMS has: ML-DSA too, as soon as the table of algorithms has it."""
SIGNING = [a for a in OURS if not a.symmetric]
INTENT = "sealwright:intent"
DEPLOYMENT = "sealwright:deployment"
SCHEME = "gcpkms://"


def settings(emulator: GcpEmulator, **more: Any) -> GcpSettings:
    fields: dict[str, Any] = {
        "project": emulator.project,
        "location": emulator.location,
        "key_ring": emulator.key_ring,
        "endpoint": emulator.address,
        "insecure_endpoint": True,
    }
    return GcpSettings(**(fields | more))


@asynccontextmanager
async def opened(emulator: GcpEmulator, **more: Any) -> AsyncIterator[GcpProvider]:
    """Open a provider as the service does."""
    provider = await FACTORY.open(settings(emulator, **more))
    assert isinstance(provider, GcpProvider)
    try:
        yield provider
    finally:
        await provider.aclose()


def guarded(provider: GcpProvider, emulator: GcpEmulator, **more: Any) -> GuardedProvider:
    return GuardedProvider("gcp-eu", provider, settings(emulator, **more), SystemClock())


def spec(name: str = "ES256", tags: dict[str, str] | None = None, **more: Any) -> KeySpec:
    bits = 4096 if name in {"RS512", "PS512"} else 2048
    fields: dict[str, Any] = {"algorithm": ALGORITHMS[name], "rsa_bits": bits, "tags": tags or {}}
    return KeySpec(**(fields | more))


def tags() -> dict[str, str]:
    return {INTENT: str(uuid.uuid4()), DEPLOYMENT: str(uuid.uuid4())}


async def make(provider: GcpProvider, name: str = "ES256", **more: Any) -> KeyDescription:
    return await provider.create(spec(name, **more), timeout=30)


def name_of(key: KeyDescription) -> str:
    return key.uri.removeprefix(SCHEME)


def accepted(key: KeyDescription, algorithm: Algorithm, message: bytes, raw: RawSignature) -> bool:
    """Tell whether the core accepts a signature."""
    signature = normalise(raw.value, raw.encoding, algorithm)
    return raw.key_uri == key.uri and verify(load_public_key(key.public_key or b""), algorithm, message, signature)


def service_account(path: Path, token_uri: str = "https://oauth2.googleapis.com/token") -> str:
    """Write the key of a service account that does not exist, and return its path."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    fields = {
        "type": "service_account",
        "project_id": "p",
        "private_key_id": "1",
        "private_key": key.decode(),
        "client_email": "signer@p.iam.gserviceaccount.com",
        "client_id": "1",
        "token_uri": token_uri,
    }
    path.write_text(json.dumps(fields))
    return str(path)
