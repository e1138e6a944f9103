"""Signatures: conversion from the encoding of a KMS to that of JOSE, and verification."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from sealwright.jose.algorithms import Algorithm, PublicKey


class SignatureFormatError(ValueError):
    """The bytes are not a signature of that algorithm."""


class SignatureEncoding(StrEnum):
    """The encoding of a signature in a backend's answer."""

    DER = "der"
    """ECDSA-Sig-Value (RFC 3279 §2.2.3): AWS KMS and Google Cloud KMS."""
    CONCATENATED = "r||s"
    """r and s of equal width: Azure Key Vault and PKCS#11."""
    OPAQUE = "opaque"
    """The same bytes as in JOSE: all algorithms but ECDSA."""


def normalise(value: bytes, encoding: SignatureEncoding, algorithm: Algorithm) -> bytes:
    """Return a signature in the form of RFC 7518 §3 and RFC 8037 §3.1.

    Args:
        value: What the backend answered.
        encoding: Its encoding, as the provider says.
        algorithm: The algorithm that made it.

    Returns:
        For ECDSA r and s, each as wide as a coordinate of the curve; other signatures unchanged.

    Raises:
        SignatureFormatError: The bytes do not have that encoding, or r or s does not fit the curve.
    """
    if (encoding is SignatureEncoding.OPAQUE) == algorithm.two_integers:
        raise SignatureFormatError(f"{algorithm.name} signatures are not encoded as {encoding}")
    size = algorithm.kind.coordinate_size
    match encoding:
        case SignatureEncoding.OPAQUE:
            return value
        case SignatureEncoding.DER:
            try:
                r, s = decode_dss_signature(value)
            except ValueError as e:
                raise SignatureFormatError("not an ECDSA-Sig-Value") from e
        case SignatureEncoding.CONCATENATED:
            half = len(value) // 2
            if len(value) % 2 or not 0 < half <= size:
                raise SignatureFormatError("not r and s of equal width")
            r, s = int.from_bytes(value[:half], "big"), int.from_bytes(value[half:], "big")
        case _:
            assert_never(encoding)
    try:
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    except OverflowError as e:
        raise SignatureFormatError("r or s is negative or wider than the curve") from e


def verify(key: PublicKey, algorithm: Algorithm, message: bytes, signature: bytes) -> bool:
    """Tell whether a JOSE signature was made over the message with the key's private half.

    Strict: ECDSA signatures have exactly the curve's width (RFC 7518 §3.4), PSS salts exactly the hash's (§3.5).

    Args:
        key: Public key.
        algorithm: The algorithm that the JWK Set publishes with it.
        message: The JWS signing input.
        signature: The signature in JOSE form.
    """
    if not algorithm.fits(key) or len(signature) != algorithm.signature_size(key):
        return False
    try:
        algorithm.verify(key, signature, message)
    except InvalidSignature:
        return False
    return True


def accepted(
    value: bytes, encoding: SignatureEncoding, key: PublicKey | None, algorithm: Algorithm, message: bytes
) -> bytes | None:
    """Return what a backend answered as a JOSE signature; None: it is not a signature over the message by that key.

    Args:
        value: What the backend answered.
        encoding: Its encoding, as the provider says.
        key: Public key; None: a secret key, which is only in the KMS. Then only the form is checked.
        algorithm: The algorithm that made it.
        message: What was signed.
    """
    try:
        signature = normalise(value, encoding, algorithm)
    except SignatureFormatError:
        return None
    if key is None:
        return signature if len(signature) == algorithm.signature_size(None) else None
    return signature if verify(key, algorithm, message, signature) else None
