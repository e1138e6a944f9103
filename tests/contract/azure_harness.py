"""Azure Key Vault and Managed HSM, as the emulator has them, and any other server with the keys API."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sealwright.jose.algorithms import Algorithm
from sealwright.provider import KeyProvider, Protection
from sealwright_providers.azure import FACTORY
from sealwright_providers.azure.connection import Connection
from sealwright_providers.azure.provider import AzureProvider
from sealwright_providers.azure.settings import AzureSettings, is_loopback
from sealwright_testing.contract import RETRY_AFTER, CannotError, Fault, Harness, KeyState, Outcome
from sealwright_testing.emulators.azure import AzureEmulator

SCHEME = "azurekms://"
NO_CURVE = "Key Vault has no Ed25519"
NO_ML_DSA = "the keys API of this version has no ML-DSA"
NEVER: dict[str | tuple[Outcome, str], str] = {
    **dict.fromkeys(("EdDSA", "Ed25519"), NO_CURVE),
    **dict.fromkeys(("ML-DSA-44", "ML-DSA-65", "ML-DSA-87"), NO_ML_DSA),
}
NO_HMAC = "a vault has no keys for HMAC: only a Managed HSM has"
NO_FAULTS = "this server does not fail on demand"
IN_THE_FUTURE = 4_000_000_000
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
        self.impossible = dict(NEVER)
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


class ServerHarness(Harness):
    """Any server with the keys API of Key Vault: Lowkey Vault, or a vault for tests at Azure. It keeps the keys of the tests.

    Args:
        environment: `SEALWRIGHT_AZURE_VAULT` is the vault's URL; `SEALWRIGHT_AZURE_CA` a file with the CA to trust;
            `SEALWRIGHT_AZURE_CREDENTIAL` the kind of credential; `SEALWRIGHT_AZURE_API_VERSION` the version of the API.
    """

    name = "azure (server)"
    protection = Protection.SOFTWARE

    def __init__(self, environment: Mapping[str, str]) -> None:
        super().__init__()
        url = environment["SEALWRIGHT_AZURE_VAULT"]
        options: dict[str, Any] = {"credential": environment.get("SEALWRIGHT_AZURE_CREDENTIAL", "default")}
        self._settings = AzureSettings(
            vault_url=url,
            ca_file=environment.get("SEALWRIGHT_AZURE_CA"),
            api_version=environment.get("SEALWRIGHT_AZURE_API_VERSION", "2025-07-01"),
            verify_challenge_resource=not is_loopback(urlsplit(url).hostname or ""),
            **options,
        )
        self._calls = 0
        self.impossible = {
            **dict.fromkeys(("EdDSA", "Ed25519"), NO_CURVE),
            **dict.fromkeys(("HS256", "HS384", "HS512"), NO_HMAC),
            **dict.fromkeys(
                (
                    Outcome.CORRUPTED_SIGNATURE,
                    Outcome.TRUNCATED_SIGNATURE,
                    Outcome.OTHER_KEY,
                    Outcome.OTHER_VERSION,
                    Outcome.DENIED,
                    Outcome.THROTTLED,
                    Outcome.THROTTLED_WITH_RETRY_AFTER,
                    Outcome.UNAVAILABLE,
                    Outcome.SLOW,
                    Outcome.CHECK,
                    Outcome.CANCEL,
                ),
                NO_FAULTS,
            ),
        }
        self.words = (self._settings.host, "azure.core")
        self.foreign = foreign(self._settings.host)

    async def open(self) -> KeyProvider:
        provider = await FACTORY.open(self._settings)
        assert isinstance(provider, AzureProvider)
        send = provider._connection._reply

        async def counted(*request: Any) -> Any:
            self._calls += 1
            return await send(*request)

        provider._connection._reply = counted  # type: ignore[method-assign,assignment]
        return provider

    def unknown(self, algorithm: Algorithm) -> str:  # noqa: ARG002 - it is the same for all
        return f"{SCHEME}{self._settings.host}/keys/unknown-{uuid.uuid4().hex}/{uuid.uuid4().hex}"

    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:
        assert isinstance(provider, AzureProvider)
        if state is KeyState.DISABLED:
            await provider.disable(uri, timeout=20)
        elif state is KeyState.PENDING_DELETION:
            await provider.schedule_deletion(uri, timeout=20)
        else:
            connection: Connection = provider._connection
            url = connection.target("keys/" + uri.partition("/keys/")[2])
            await connection.call("PATCH", url, b'{"attributes":{"nbf":%d}}' % IN_THE_FUTURE, timeout=20)

    def arm(self, fault: Fault) -> AbstractContextManager[None]:
        raise CannotError(f"{NO_FAULTS}: {fault}")

    def calls(self) -> int:
        return self._calls
