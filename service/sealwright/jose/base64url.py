"""Base64url without padding (RFC 7515 §2)."""

from __future__ import annotations

import base64


def encode(data: bytes) -> str:
    """Encode bytes without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def encoded_length(size: int) -> int:
    """Return how many characters `size` bytes become."""
    return (size * 4 + 2) // 3
