"""The `gcp` provider."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.cloud.kms_v1.types import resources, service

from sealwright.provider import (
    Algorithm,
    KeyDescription,
    KeySpec,
    MessageTooLargeError,
    ProviderAccessDeniedError,
    ProviderUnsupportedError,
    RawSignature,
    SignatureEncoding,
    SignatureRejectedError,
)
from sealwright_providers.gcp.algorithms import KMS_ALGORITHMS, MAX_MESSAGE_BYTES
from sealwright_providers.gcp.channel import KmsChannel
from sealwright_providers.gcp.creation import Creation
from sealwright_providers.gcp.errors import CredentialsRefusedError
from sealwright_providers.gcp.integrity import crc32c, matches
from sealwright_providers.gcp.keys import Keys
from sealwright_providers.gcp.limits import TRIES, limit_of, limited
from sealwright_providers.gcp.names import KeyRing
from sealwright_providers.gcp.settings import GcpSettings

_AsymmetricSign: Final[Any] = service.AsymmetricSignRequest.pb()
_AsymmetricSignature: Final[Any] = service.AsymmetricSignResponse.pb()
_MacSign: Final[Any] = service.MacSignRequest.pb()
_Mac: Final[Any] = service.MacSignResponse.pb()
_KeyRing: Final[Any] = resources.KeyRing.pb()


class GcpProvider:
    """Keys of one key ring of Google Cloud KMS. A CryptoKeyVersion pins a key: its material and algorithm never change."""

    def __init__(self, settings: GcpSettings, channel: KmsChannel) -> None:
        self._ring = KeyRing(settings.project, settings.location, settings.key_ring)
        self._channel = channel
        self._keys = Keys(self._ring, channel)
        self._creation = Creation(self._ring, channel, self._keys)

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        """See `KeyProvider.describe`. A CryptoKey without a version is resolved to its version if exactly one is enabled."""
        name = self._ring.resolvable(uri)
        async with limited(timeout) as limit:
            return await self._keys.describe(name, limit)

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        """See `KeyProvider.sign`. Repeats the call where a checksum or the name of the version in the answer is wrong."""
        name = self._ring.pinned(uri)
        if algorithm.name not in KMS_ALGORITHMS or not self._keys.may_sign(name, algorithm.name):
            raise ProviderUnsupportedError(f"the key in Google Cloud KMS does not sign with {algorithm.name}")
        if not algorithm.prehashed and len(message) > MAX_MESSAGE_BYTES:
            raise MessageTooLargeError(
                f"Google Cloud KMS signs messages of at most {MAX_MESSAGE_BYTES} bytes with {algorithm.name}; "
                f"this one has {len(message)}",
                metadata={"size": str(len(message)), "limit": str(MAX_MESSAGE_BYTES)},
            )
        limit = limit_of(timeout)  # each call ends at its deadline by itself
        for _ in range(TRIES):
            value = await self._signature(name, algorithm, message, limit.left())
            if value is not None:
                encoding = SignatureEncoding.DER if algorithm.two_integers else SignatureEncoding.OPAQUE
                return RawSignature(value=value, encoding=encoding, key_uri=uri)
        raise SignatureRejectedError(
            f"{TRIES} answers of Google Cloud KMS in a row had a wrong checksum or came from another key version"
        )

    async def check(self, *, timeout: float) -> None:
        """See `KeyProvider.check`. Reads the key ring."""
        request = service.GetKeyRingRequest.pb()(name=self._ring.name)
        name = self._ring.name
        try:
            async with limited(timeout) as limit:
                await self._channel.call("GetKeyRing", request, _KeyRing, "name", name, timeout=limit.left())
        except CredentialsRefusedError:
            raise
        except ProviderAccessDeniedError:
            return  # Cloud KMS answers, and signing does not need the permission to read the key ring.

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """See `KeyCreator.create`. A second call with the same intent returns the key of the first one."""
        return await self._creation.create(spec, timeout)

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """See `KeyFinder.find`. With an intent in the tags this reads one key by its name. Without, it lists the key ring."""
        return await self._creation.find(tags, timeout)

    async def disable(self, uri: str, *, timeout: float) -> None:
        """See `KeyDisabler.disable`.

        Cloud KMS may sign with a disabled version for about a minute, in rare cases for hours (Cloud KMS, "Resource consistency").
        """
        name = self._ring.pinned(uri)
        async with limited(timeout) as limit:
            await self._keys.disable(name, limit)

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        """See `KeyDeleter.schedule_deletion`. Cloud KMS waits for the key's `destroy_scheduled_duration`: 30 days by default."""
        name = self._ring.pinned(uri)
        async with limited(timeout) as limit:
            await self._keys.schedule_destruction(name, limit)

    async def aclose(self) -> None:
        """See `KeyProvider.aclose`."""
        await self._channel.aclose()

    async def _signature(self, name: str, algorithm: Algorithm, message: bytes, timeout: float) -> bytes | None:
        """Return a signature, or None where the answer fails its checks."""
        if algorithm.symmetric:
            request = _MacSign(name=name, data=message, data_crc32c={"value": crc32c(message)})
            mac = await self._channel.call("MacSign", request, _Mac, "name", name, timeout=timeout)
            intact = mac.verified_data_crc32c and mac.name == name and matches(mac, "mac_crc32c", mac.mac)
            return bytes(mac.mac) if intact else None
        if algorithm.prehashed and algorithm.hash is not None:
            digest = algorithm.digest(message)
            fields = {"digest": {algorithm.hash.name: digest}, "digest_crc32c": {"value": crc32c(digest)}}
        else:
            fields = {"data": message, "data_crc32c": {"value": crc32c(message)}}
        request = _AsymmetricSign(name=name, **fields)
        answer = await self._channel.call(
            "AsymmetricSign", request, _AsymmetricSignature, "name", name, timeout=timeout
        )
        verified = answer.verified_digest_crc32c if algorithm.prehashed else answer.verified_data_crc32c
        intact = verified and answer.name == name and matches(answer, "signature_crc32c", answer.signature)
        return bytes(answer.signature) if intact else None
