"""Resource names and labels of Google Cloud KMS, and key URIs: `gcpkms://` followed by the name of a CryptoKeyVersion."""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Mapping
from typing import Final

from sealwright.provider import ProviderUnsupportedError

PREFIX: Final = "gcpkms://"
INTENT: Final = "sealwright:intent"
"""The tag that says which intent a key was created for. It is unique, so the name of the CryptoKey is made from it."""

_VERSIONS: Final = "/cryptoKeyVersions/"
_KEY = re.compile(r"[A-Za-z0-9_-]{1,63}")
_PINNED = re.compile(r"[A-Za-z0-9_-]{1,63}/cryptoKeyVersions/[1-9][0-9]{0,9}")
_KEY_ID_START: Final = "sealwright-"
_PLAIN_INTENT = re.compile(r"[A-Za-z0-9_-]{1,52}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_NOT_IN_LABELS = re.compile(r"[^a-z0-9_-]")
_MAX_LABEL: Final = 63
_HASH_DIGITS: Final = 40


class KeyRing:
    """The key ring that a provider is configured for.

    Attributes:
        name: Resource name: `projects/…/locations/…/keyRings/…`.
    """

    def __init__(self, project: str, location: str, key_ring: str) -> None:
        self.name = f"projects/{project}/locations/{location}/keyRings/{key_ring}"
        self._start = f"{PREFIX}{self.name}/cryptoKeys/"

    def crypto_key(self, key_id: str) -> str:
        """Return the resource name of a CryptoKey."""
        return f"{self.name}/cryptoKeys/{key_id}"

    def pinned(self, uri: str) -> str:
        """Return the resource name of the CryptoKeyVersion that a URI names.

        Raises:
            ProviderUnsupportedError: The URI names no version, or is outside the key ring.
        """
        if uri.startswith(self._start):
            rest = uri[len(self._start) :]
            if _PINNED.fullmatch(rest):
                return uri[len(PREFIX) :]
            if _KEY.fullmatch(rest):
                raise ProviderUnsupportedError(
                    "the key URI names no version, and asymmetric keys of Google Cloud KMS have no primary version: "
                    "end it with /cryptoKeyVersions/ and a number"
                )
        raise ProviderUnsupportedError(
            "the key URI must be gcpkms:// followed by the name of a CryptoKeyVersion in the provider's key ring"
        )

    def resolvable(self, uri: str) -> str:
        """Return the resource name that a URI names: that of a CryptoKeyVersion, or that of a CryptoKey.

        Raises:
            ProviderUnsupportedError: The URI is neither, or is outside the key ring.
        """
        if uri.startswith(self._start) and _KEY.fullmatch(uri[len(self._start) :]):
            return uri[len(PREFIX) :]
        return self.pinned(uri)


def to_uri(version: str) -> str:
    """Return the key URI of a CryptoKeyVersion's resource name."""
    return PREFIX + version


def is_version(name: str) -> bool:
    """Tell whether a resource name is that of a CryptoKeyVersion."""
    return _VERSIONS in name


def first_version(crypto_key: str) -> str:
    """Return the resource name of the version that CreateCryptoKey creates. Cloud KMS numbers versions from 1."""
    return f"{crypto_key}{_VERSIONS}1"


def version_number(version: str) -> int:
    """Return the number of a version, given its resource name; 0 if it has none."""
    number = version.rpartition(_VERSIONS)[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def key_id(tags: Mapping[str, str]) -> str:
    """Return the ID of the CryptoKey for these tags. One intent has one name, so a repeated call cannot create a second key.

    Without an intent the ID is random.
    """
    intent = tags.get(INTENT) or str(uuid.uuid4())
    return _KEY_ID_START + (intent if _PLAIN_INTENT.fullmatch(intent) else _hash(intent))


def labels(tags: Mapping[str, str]) -> dict[str, str]:
    """Return tags as labels, which have lower-case letters, digits, `_` and `-` only (Resource Manager, "Labels overview").

    In names, other characters become `-`. A value with other characters becomes its hash, so that different values stay different.
    """
    return {
        _NOT_IN_LABELS.sub("-", name.lower())[:_MAX_LABEL]: value if _LABEL_VALUE.fullmatch(value) else _hash(value)
        for name, value in tags.items()
    }


def _hash(text: str) -> str:
    return "h" + hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]
