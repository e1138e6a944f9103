"""Base64url without padding (RFC 7515 §2)."""

from __future__ import annotations

import base64
import binascii
import re

_URL_SAFE = bytes.maketrans(b"+/", b"-_")
_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


def encode(data: bytes) -> str:
    """Encode bytes without padding."""
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Decode strictly: without padding, other characters, or trailing bits that an encoder would not write.

    Raises:
        ValueError: The text is not what `encode` returns for any bytes.
    """
    if not _ALPHABET.fullmatch(text):
        raise ValueError("not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as e:
        raise ValueError("not base64url without padding") from e
    if encode(data) != text:
        raise ValueError("base64url with trailing bits that are not zero")
    return data


def encoded_length(size: int) -> int:
    """Return the number of characters that encode `size` bytes."""
    return (size * 4 + 2) // 3
