"""A plug-in as another package would write it: of Sealwright it imports only sealwright.provider."""

# ruff: noqa: ARG002 - only the types matter

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from sealwright.provider import (
    Algorithm,
    KeyCreator,
    KeyDeleter,
    KeyDescription,
    KeyDisabler,
    KeyFinder,
    KeyProvider,
    KeySpec,
    PositiveDuration,
    Protection,
    ProviderFactory,
    ProviderSettings,
    ProviderUnsupportedError,
    RawSignature,
    SignatureEncoding,
)


class VaultSettings(ProviderSettings):
    kind: Literal["vault"] = "vault"
    tenant: str
    lease: PositiveDuration


class VaultProvider:
    def __init__(self, tenant: str) -> None:
        self.tenant = tenant

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        raise ProviderUnsupportedError(f"no key in {timeout} s")

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        value = algorithm.digest(message) if algorithm.prehashed else message
        encoding = SignatureEncoding.DER if algorithm.two_integers else SignatureEncoding.OPAQUE
        return RawSignature(value=value, encoding=encoding, key_uri=uri)

    async def check(self, *, timeout: float) -> None:
        pass

    async def aclose(self) -> None:
        pass

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        if spec.protection not in {None, Protection.HSM}:
            raise ProviderUnsupportedError("only HSM keys")
        return KeyDescription(uri="vault:1", public_key=None, algorithms=frozenset(), protection=Protection.HSM)

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        return list(tags)

    async def disable(self, uri: str, *, timeout: float) -> None:
        pass

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        pass


class VaultFactory:
    kind = "vault"
    settings = VaultSettings

    async def open(self, settings: VaultSettings) -> KeyProvider:
        return VaultProvider(settings.tenant)


FACTORY: ProviderFactory[VaultSettings] = VaultFactory()
CREATOR: KeyCreator = VaultProvider("t")
FINDER: KeyFinder = VaultProvider("t")
DISABLER: KeyDisabler = VaultProvider("t")
DELETER: KeyDeleter = VaultProvider("t")
