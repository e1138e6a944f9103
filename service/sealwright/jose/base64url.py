"""Base64url without padding (RFC 7515 §2)."""

from __future__ import annotations

import base64
import binascii
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*")


def encode(data: bytes) -> str:
    """Encode bytes without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Decode, strictly: no padding, no other characters, and no bits that an encoder would not have written.

    Raises:
        ValueError: The text is not what `encode` gives for any bytes.
    """
    if not _ALPHABET.fullmatch(text):
        raise ValueError("not base64url without padding")
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error as e:
        raise ValueError("not base64url without padding") from e
    if encode(data) != text:
        raise ValueError("not the base64url of any bytes")
    return data


def encoded_length(size: int) -> int:
    """Return how many characters `size` bytes become."""
    return (size * 4 + 2) // 3
