"""Creating keys in Google Cloud KMS, and finding them again: one CryptoKey for each intent, named after it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.cloud.kms_v1.types import resources, service

from sealwright.provider import (
    KeyDescription,
    KeySpec,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnsupportedError,
)
from sealwright_providers.gcp.algorithms import protection_level, version_algorithm
from sealwright_providers.gcp.channel import KmsChannel
from sealwright_providers.gcp.errors import KeyExistsError, KeyPendingError
from sealwright_providers.gcp.keys import Keys, Version, is_imported, state
from sealwright_providers.gcp.limits import Limit, limited
from sealwright_providers.gcp.names import INTENT, KeyRing, first_version, key_id, labels, to_uri, version_number

_CryptoKey: Final[Any] = resources.CryptoKey.pb()
_Page: Final[Any] = service.ListCryptoKeysResponse.pb()

_USABLE: Final = frozenset({"ENABLED", "PENDING_GENERATION", "DISABLED"})
"""States of versions that are an intent's key. A version in another state never signs again, or its generation failed."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class Creation:
    """Creates and finds keys in a key ring."""

    def __init__(self, ring: KeyRing, channel: KmsChannel, keys: Keys) -> None:
        self._ring = ring
        self._channel = channel
        self._keys = keys

    async def create(self, spec: KeySpec, timeout: float) -> KeyDescription:
        """Create the CryptoKey of an intent with its first version, and wait until it can sign.

        If the CryptoKey exists, an earlier call created it and its answer was lost. Then its version is the key.

        Raises:
            KeyPendingError: Generating the key takes longer than `timeout`. `find` will return it.
            ProviderUnsupportedError: Cloud KMS has no such keys, or the name is taken by a key that is not ours.
            ProviderError: See `KeyCreator.create`.
        """
        crypto_key = {
            "purpose": "MAC" if spec.algorithm.symmetric else "ASYMMETRIC_SIGN",
            "version_template": {
                "algorithm": version_algorithm(spec.algorithm, spec.rsa_bits),
                "protection_level": protection_level(spec.algorithm, spec.protection),
            },
            "labels": labels(spec.tags),
        }
        identifier = key_id(spec.tags)
        request = service.CreateCryptoKeyRequest.pb()(
            parent=self._ring.name, crypto_key_id=identifier, crypto_key=crypto_key
        )
        name = self._ring.crypto_key(identifier)
        async with limited(timeout) as limit:
            try:
                await self._channel.call(
                    "CreateCryptoKey", request, _CryptoKey, "parent", self._ring.name, timeout=limit.left()
                )
                version = first_version(name)
            except KeyExistsError:
                version = await self._existing(name, labels(spec.tags), limit)
            await spec.created(to_uri(version))
            return await self._once_enabled(version, limit)

    async def find(self, tags: Mapping[str, str], timeout: float) -> Sequence[str]:
        """Return the URIs of the versions whose CryptoKey has these tags. See `KeyFinder.find`."""
        wanted = labels(tags)
        async with limited(timeout) as limit:
            if INTENT in tags:
                keys = await self._by_name(self._ring.crypto_key(key_id(tags)), limit)
            else:
                keys = await self._all(limit)
            found: list[str] = []
            for key in keys:
                if _has_labels(key, wanted):
                    found += [to_uri(v.name) for v in await self._usable(key.name, limit)]
            return found

    async def _existing(self, name: str, wanted: Mapping[str, str], limit: Limit) -> str:
        """Return the version to use of a CryptoKey that exists already. Create one where it has none that can ever sign."""
        if not all(_has_labels(key, wanted) for key in await self._by_name(name, limit)):
            raise ProviderUnsupportedError(
                "a key with the name of this intent exists in Google Cloud KMS, and its labels say that it is another key"
            )
        usable = await self._usable(name, limit)
        if len(usable) > 1 or any(is_imported(v) for v in usable):
            raise ProviderUnsupportedError(
                "the key of this intent in Google Cloud KMS has several versions, or imported key material"
            )
        if usable:
            return str(usable[0].name)
        request = service.CreateCryptoKeyVersionRequest.pb()(parent=name, crypto_key_version={})
        version = await self._channel.call(
            "CreateCryptoKeyVersion", request, Version, "parent", name, timeout=limit.left()
        )
        return str(version.name)

    async def _by_name(self, name: str, limit: Limit) -> list[Any]:
        request = service.GetCryptoKeyRequest.pb()(name=name)
        try:
            return [await self._channel.call("GetCryptoKey", request, _CryptoKey, "name", name, timeout=limit.left())]
        except ProviderKeyMissingError:
            return []

    async def _all(self, limit: Limit) -> list[Any]:
        found: list[Any] = []
        token = ""
        while True:
            request = service.ListCryptoKeysRequest.pb()(parent=self._ring.name, page_token=token)
            page = await self._channel.call(
                "ListCryptoKeys", request, _Page, "parent", self._ring.name, timeout=limit.left()
            )
            found += page.crypto_keys
            token = page.next_page_token
            if not token:
                return found

    async def _usable(self, crypto_key: str, limit: Limit) -> list[Any]:
        """Return the versions of a CryptoKey that sign, or can sign again, oldest first."""
        versions = await self._keys.versions(crypto_key, limit)
        return sorted((v for v in versions if state(v) in _USABLE), key=lambda v: version_number(v.name))

    async def _once_enabled(self, name: str, limit: Limit) -> KeyDescription:
        """Describe a new version as soon as it is generated. That may take minutes (Cloud KMS FAQ)."""
        pause = _FIRST_PAUSE
        while True:
            try:
                return await self._keys.describe(name, limit)
            except KeyPendingError:
                if limit.left() <= pause:
                    raise
            except ProviderKeyMissingError:
                if limit.left() <= pause:
                    raise ProviderKeyDisabledError("the new key in Google Cloud KMS is not visible yet") from None
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)


def _has_labels(key: Any, wanted: Mapping[str, str]) -> bool:
    return all(key.labels.get(name) == value for name, value in wanted.items())
