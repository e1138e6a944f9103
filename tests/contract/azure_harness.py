"""Azure Key Vault and Managed HSM, as the emulator has them, and any other server with the keys API."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.provider import KeyDeleter, KeyDisabler, KeyProvider, Protection
from sealwright_providers.azure import FACTORY
from sealwright_providers.azure.connection import Connection
from sealwright_providers.azure.settings import AzureSettings
from sealwright_testing.contract import RETRY_AFTER, CannotError, Fault, Harness, KeyState, Outcome
from sealwright_testing.emulators.azure import AzureEmulator

SCHEME = "azurekms://"
NO_CURVE = "Key Vault has no Ed25519"
NO_HMAC = "a vault has no keys for HMAC: only a Managed HSM has"
IN_THE_PAST, IN_THE_FUTURE = 1_000_000_000, 4_000_000_000
FAULTS: dict[Fault, dict[str, Any]] = {
    Fault.CORRUPTED_SIGNATURE: {"kind": "corrupted_signature"},
    Fault.TRUNCATED_SIGNATURE: {"kind": "truncated_signature"},
    Fault.OTHER_KEY: {"kind": "wrong_signature"},
    Fault.OTHER_VERSION: {"kind": "other_key"},
    Fault.DENIED: {"kind": "deny", "message": "Caller is not authorized. Vault: sealwright;location=westeurope"},
    Fault.THROTTLED: {"kind": "throttle"},
    Fault.THROTTLED_WITH_RETRY_AFTER: {"kind": "throttle", "retry_after": RETRY_AFTER},
    Fault.UNAVAILABLE: {"kind": "http_500", "message": "https://sealwright.vault.azure.net/keys/k"},
    Fault.SLOW: {"kind": "hang"},
}


def foreign(host: str) -> tuple[str, ...]:
    """Return key URIs outside a vault."""
    key = f"keys/jwt/{'1' * 32}"
    return (
        f"{SCHEME}other.vault.azure.net/{key}",
        f"{SCHEME}{host}.example.com/{key}",
        f"{SCHEME}user@{host}/{key}",
        f"{SCHEME}{host}/secrets/jwt/{'1' * 32}",
        f"{SCHEME}{host}/{key}/sign",
        f"{SCHEME}{host}/{key}?api-version=7.4",
        f"{SCHEME}{host}/keys/../jwt/{'1' * 32}",
        f"{SCHEME}{host}/keys/jwt/latest",
        f"{SCHEME}{host}/keys/a_b/{'1' * 32}",
        f"https://{host}/{key}",
    )


class AzureHarness(Harness):
    def __init__(self, emulator: AzureEmulator, secret_file: Path) -> None:
        super().__init__()
        self.name = "azure (Managed HSM)" if emulator.managed_hsm else "azure (vault)"
        self.protection = Protection.HSM if emulator.managed_hsm else Protection.SOFTWARE
        self.impossible = {"EdDSA": NO_CURVE, "Ed25519": NO_CURVE}
        if not emulator.managed_hsm:
            self.impossible |= dict.fromkeys(("HS256", "HS384", "HS512"), NO_HMAC)
        self._emulator = emulator
        self._host = emulator.vault_url.removeprefix("https://")
        self._settings = AzureSettings(
            vault_url=emulator.vault_url,
            credential="client_secret",
            tenant_id=emulator.identity.tenant,
            client_id=emulator.identity.client_id,
            client_secret_file=str(secret_file),
            authority=emulator.endpoint,
            ca_file=emulator.ca,
        )
        self.words = (self._host, "localhost", emulator.identity.tenant, emulator.identity.client_id, "azure.core")
        self.foreign = foreign(self._host)

    async def open(self) -> KeyProvider:
        return await FACTORY.open(self._settings)

    def unknown(self, algorithm: Algorithm) -> str:  # noqa: ARG002 - it is the same for all
        return f"{SCHEME}{self._host}/keys/unknown/{uuid.uuid4().hex}"

    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:  # noqa: ARG002 - the emulator does it
        name, version = uri.rsplit("/", 2)[1:]
        match state:
            case KeyState.DISABLED:
                self._emulator.set_attributes(name, version, enabled=False)
            case KeyState.NOT_YET_ENABLED:
                self._emulator.set_attributes(name, version, not_before=IN_THE_FUTURE)
            case KeyState.PENDING_DELETION:
                self._emulator.delete(name)

    @contextmanager
    def arm(self, fault: Fault) -> Iterator[None]:
        self._emulator.add_fault(**FAULTS[fault])
        try:
            yield
        finally:
            self._emulator.clear_faults()

    def calls(self) -> int:
        return sum(self._emulator.calls.values())
