"""Key versions as Google Cloud KMS describes them, and changes of their state."""

from __future__ import annotations

from typing import Any, Final

from google.cloud.kms_v1.types import resources, service

from sealwright.provider import (
    KeyDescription,
    Protection,
    ProviderKeyDisabledError,
    ProviderKeyLostError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright_providers.gcp.algorithms import (
    der_from_pem,
    der_from_raw,
    is_post_quantum,
    is_secret,
    jws_algorithms,
)
from sealwright_providers.gcp.channel import KmsChannel
from sealwright_providers.gcp.errors import KeyPendingError
from sealwright_providers.gcp.integrity import matches
from sealwright_providers.gcp.limits import TRIES, Limit
from sealwright_providers.gcp.names import KeyRing, is_version, to_uri

Version: Final[Any] = resources.CryptoKeyVersion.pb()
"""The protobuf class of a CryptoKeyVersion."""

_PublicKey: Final[Any] = resources.PublicKey.pb()
_Page: Final[Any] = service.ListCryptoKeyVersionsResponse.pb()
_NIST_PQC: Final = int(resources.PublicKey.PublicKeyFormat.NIST_PQC)
_PROTECTION: Final = {
    "SOFTWARE": Protection.SOFTWARE,
    "HSM": Protection.HSM,
    "HSM_SINGLE_TENANT": Protection.HSM,
    "EXTERNAL": Protection.EXTERNAL,
    "EXTERNAL_VPC": Protection.EXTERNAL,
}
_LOST: Final = frozenset({"GENERATION_FAILED", "DESTROYED"})
_ENDING: Final = frozenset({"DESTROY_SCHEDULED", "DESTROYED"})


def state(version: Any) -> str:
    """Return the name of a version's CryptoKeyVersionState."""
    return _name(Version.CryptoKeyVersionState, version.state)


def is_imported(version: Any) -> bool:
    """Return whether a version's material was imported, so that others may have it."""
    return bool(version.import_job) or version.HasField("import_time")


class Keys:
    """The key versions of a key ring."""

    def __init__(self, ring: KeyRing, channel: KmsChannel) -> None:
        self._ring = ring
        self._channel = channel
        self._algorithms: dict[str, frozenset[str]] = {}

    def may_sign(self, name: str, algorithm: str) -> bool:
        """Tell whether a version may sign with a JWS algorithm, as far as is known without a call.

        Cloud KMS signs a SHA-256 digest with whatever algorithm the version has, so the request itself does not name one.
        """
        known = self._algorithms.get(name)
        return known is None or algorithm in known

    async def describe(self, name: str, limit: Limit) -> KeyDescription:
        """Describe a version, or the only enabled version of a CryptoKey.

        Raises:
            ProviderError: See `KeyProvider.describe`.
        """
        version = await (self.version(name, limit) if is_version(name) else self._only_enabled(name, limit))
        return await self.description(version, limit)

    async def version(self, name: str, limit: Limit) -> Any:
        """Read a CryptoKeyVersion."""
        request = service.GetCryptoKeyVersionRequest.pb()(name=name)
        version = await self._channel.call("GetCryptoKeyVersion", request, Version, "name", name, timeout=limit.left())
        if version.name != name:
            raise ProviderUnavailableError("Google Cloud KMS described a different key from the one requested")
        return version

    async def versions(self, crypto_key: str, limit: Limit) -> list[Any]:
        """Read all versions of a CryptoKey."""
        found: list[Any] = []
        token = ""
        while True:
            request = service.ListCryptoKeyVersionsRequest.pb()(parent=crypto_key, page_token=token)
            page = await self._channel.call(
                "ListCryptoKeyVersions", request, _Page, "parent", crypto_key, timeout=limit.left()
            )
            found += page.crypto_key_versions
            token = page.next_page_token
            if not token:
                return found

    async def description(self, version: Any, limit: Limit) -> KeyDescription:
        """Describe a version that was read.

        Raises:
            KeyPendingError: It is still being generated.
            ProviderKeyDisabledError: It cannot sign.
            ProviderUnsupportedError: JWS does not have its algorithm.
        """
        self._ring.pinned(to_uri(version.name))
        _require_enabled(version)
        kms_algorithm = _name(Version.CryptoKeyVersionAlgorithm, version.algorithm)
        algorithms = jws_algorithms(kms_algorithm)
        protection = _PROTECTION.get(_name(resources.ProtectionLevel, version.protection_level))
        if not algorithms or protection is None:
            raise ProviderUnsupportedError(
                "the algorithm or protection level of the key in Google Cloud KMS cannot be used"
            )
        public_key = None if is_secret(kms_algorithm) else await self._public_key(version, kms_algorithm, limit)
        self._algorithms[version.name] = algorithms
        return KeyDescription(
            uri=to_uri(version.name),
            public_key=public_key,
            algorithms=algorithms,
            protection=protection,
            imported=is_imported(version),
        )

    async def disable(self, name: str, limit: Limit) -> None:
        """Set the state of a version to DISABLED."""
        request = service.UpdateCryptoKeyVersionRequest.pb()(
            crypto_key_version={"name": name, "state": "DISABLED"}, update_mask={"paths": ["state"]}
        )
        await self._channel.call(
            "UpdateCryptoKeyVersion", request, Version, "crypto_key_version.name", name, timeout=limit.left()
        )

    async def schedule_destruction(self, name: str, limit: Limit) -> None:
        """Schedule the destruction of a version. Succeeds if it is already scheduled."""
        request = service.DestroyCryptoKeyVersionRequest.pb()(name=name)
        try:
            await self._channel.call("DestroyCryptoKeyVersion", request, Version, "name", name, timeout=limit.left())
        except ProviderKeyDisabledError:
            if state(await self.version(name, limit)) not in _ENDING:
                raise

    async def _only_enabled(self, crypto_key: str, limit: Limit) -> Any:
        enabled = [v for v in await self.versions(crypto_key, limit) if state(v) == "ENABLED"]
        if len(enabled) != 1:
            raise ProviderUnsupportedError(
                f"the key URI names no version, and the key in Google Cloud KMS has {len(enabled)} enabled versions: "
                "end the URI with /cryptoKeyVersions/ and a number"
            )
        return enabled[0]

    async def _public_key(self, version: Any, kms_algorithm: str, limit: Limit) -> bytes:
        """Read a public key as SubjectPublicKeyInfo. Repeats the call where the checksum or the name is wrong."""
        post_quantum = is_post_quantum(kms_algorithm)
        # Without a format, post-quantum keys are refused. With one, `pem` stays empty, and other implementations know none.
        fields = {"public_key_format": _NIST_PQC} if post_quantum else {}
        request = service.GetPublicKeyRequest.pb()(name=version.name, **fields)
        for _ in range(TRIES):
            answer = await self._channel.call(
                "GetPublicKey", request, _PublicKey, "name", version.name, timeout=limit.left()
            )
            if answer.name != version.name or answer.algorithm != version.algorithm:
                continue
            raw = answer.public_key.data
            if post_quantum and matches(answer.public_key, "crc32c_checksum", raw):
                return der_from_raw(kms_algorithm, raw)
            if not post_quantum and matches(answer, "pem_crc32c", answer.pem.encode()):
                return der_from_pem(answer.pem)
        raise ProviderUnavailableError(
            f"{TRIES} answers of Google Cloud KMS in a row had a public key with a wrong checksum or of another key version"
        )


def _require_enabled(version: Any) -> None:
    current = state(version)
    if current == "PENDING_GENERATION":
        raise KeyPendingError("Google Cloud KMS is still generating the key")
    if current in _LOST:
        raise ProviderKeyLostError(f"the key in Google Cloud KMS will never sign: its state is {current}")
    if current != "ENABLED":
        raise ProviderKeyDisabledError(f"the key in Google Cloud KMS cannot sign: its state is {current}")


def _name(enum: Any, value: int) -> str:
    """Return the name of an enumerator; its number where this library does not know it."""
    try:
        return str(enum.Name(value) if hasattr(enum, "Name") else enum(value).name)
    except ValueError:
        return str(value)
