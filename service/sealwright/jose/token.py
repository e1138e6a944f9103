"""Compact JWS (RFC 7515 §3.1): header, payload and signature, each in base64url."""

from __future__ import annotations

import json

from sealwright.jose import base64url


def header_segment(*, alg: str, kid: str, typ: str) -> str:
    """Return the encoded header: `alg`, `kid` and `typ`. Nothing in it is the caller's free choice (RFC 8725 §3.10).

    The text is the same in every process, so that a token does not reveal which replica made it.

    Args:
        alg: JWS algorithm.
        kid: Key ID.
        typ: Token type (RFC 8725 §3.11), without `application/`.
    """
    text = json.dumps({"alg": alg, "kid": kid, "typ": typ}, separators=(",", ":"))
    return base64url.encode(text.encode())


def signing_input(header: str, payload: bytes) -> bytes:
    """Return the JWS Signing Input (RFC 7515 §5.1 step 5)."""
    return f"{header}.{base64url.encode(payload)}".encode("ascii")


def compact(signed: bytes, signature: bytes) -> str:
    """Return the token: the bytes that were signed, and their signature."""
    return f"{signed.decode('ascii')}.{base64url.encode(signature)}"


def compact_length(signed: bytes, signature_size: int) -> int:
    """Return the length that the token will have, before the signature is known."""
    return len(signed) + 1 + base64url.encoded_length(signature_size)
