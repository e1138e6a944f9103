"""Resource names, which Cloud KMS refuses as INVALID_ARGUMENT where they are malformed."""

from __future__ import annotations

import re
from typing import Final

from .errors import invalid

_PART: Final = r"[^/]{1,100}"
_ID: Final = r"[A-Za-z0-9_-]{1,63}"
_LOCATION: Final = rf"projects/{_PART}/locations/{_PART}"
_RING: Final = rf"{_LOCATION}/keyRings/{_ID}"
_KEY: Final = rf"{_RING}/cryptoKeys/{_ID}"
_PATTERNS: Final = {
    "location": re.compile(_LOCATION),
    "key ring": re.compile(_RING),
    "crypto key": re.compile(_KEY),
    "crypto key version": re.compile(rf"{_KEY}/cryptoKeyVersions/[0-9]{{1,10}}"),
    "id": re.compile(_ID),
}


def checked(kind: str, name: str) -> str:
    """Return a name if it is well formed.

    Args:
        kind: `location`, `key ring`, `crypto key`, `crypto key version` or `id`.
        name: The name.

    Raises:
        KmsError: INVALID_ARGUMENT.
    """
    if not _PATTERNS[kind].fullmatch(name):
        raise invalid(f"The {kind} name {name!r} is malformed.")
    return name


def crypto_key_of(version: str) -> str:
    """Return the name of the CryptoKey of a version."""
    return version.rpartition("/cryptoKeyVersions/")[0]


def ring_of(crypto_key: str) -> str:
    """Return the name of the key ring of a CryptoKey."""
    return crypto_key.rpartition("/cryptoKeys/")[0]
