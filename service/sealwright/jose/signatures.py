"""Signatures: from the form that a KMS answers in to the form that JOSE wants, and their verification."""

from __future__ import annotations

from enum import StrEnum
from typing import assert_never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from sealwright.jose.algorithms import Algorithm, PublicKey, Scheme


class SignatureFormatError(ValueError):
    """The bytes are no signature of that algorithm."""


class SignatureEncoding(StrEnum):
    """The form of a signature as a backend answers it."""

    DER = "der"
    """ECDSA-Sig-Value (RFC 3279 §2.2.3): AWS KMS and Google Cloud KMS."""
    CONCATENATED = "r||s"
    """r and s of equal width: Azure Key Vault and PKCS#11."""
    OPAQUE = "opaque"
    """As JOSE has it: RSA and EdDSA."""


def normalise(value: bytes, encoding: SignatureEncoding, algorithm: Algorithm) -> bytes:
    """Return a signature in the form of RFC 7518 §3 and RFC 8037 §3.1.

    Args:
        value: What the backend answered.
        encoding: The form of it, as its provider says.
        algorithm: The algorithm that it was made with.

    Returns:
        For ECDSA r and s, each as wide as a coordinate of the curve; other signatures as they are.

    Raises:
        SignatureFormatError: The bytes are not in that form, or r or s does not fit the curve.
    """
    if (encoding is SignatureEncoding.OPAQUE) == (algorithm.scheme is Scheme.ECDSA):
        raise SignatureFormatError(f"{algorithm.name} signatures are not encoded as {encoding}")
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
            if len(value) % 2 or not 0 < half <= algorithm.coordinate_size:
                raise SignatureFormatError("not r and s of equal width")
            r, s = int.from_bytes(value[:half], "big"), int.from_bytes(value[half:], "big")
        case _:
            assert_never(encoding)
    size = algorithm.coordinate_size
    try:
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    except OverflowError as e:
        raise SignatureFormatError("r or s is negative or wider than the curve") from e


def verify(key: PublicKey, algorithm: Algorithm, message: bytes, signature: bytes) -> bool:
    """Tell whether a JOSE signature was made over the message with the key's private half.

    Strict: ECDSA signatures have exactly the curve's width (RFC 7518 §3.4), PSS salts exactly the hash's (§3.5).

    Args:
        key: Public key.
        algorithm: The algorithm that it is published with.
        message: The JWS signing input.
        signature: The signature in JOSE form.
    """
    if not algorithm.fits(key) or len(signature) != algorithm.signature_size(key):
        return False
    try:
        _verify(key, algorithm, message, signature)
    except InvalidSignature:
        return False
    return True


def _verify(key: PublicKey, algorithm: Algorithm, message: bytes, signature: bytes) -> None:
    match key:
        case rsa.RSAPublicKey() if algorithm.hash is not None:
            pad: padding.AsymmetricPadding = padding.PKCS1v15()
            if algorithm.scheme is Scheme.RSA_PSS:
                pad = padding.PSS(padding.MGF1(algorithm.hash), algorithm.hash.digest_size)
            key.verify(signature, message, pad, algorithm.hash)
        case ec.EllipticCurvePublicKey() if algorithm.hash is not None:
            half = algorithm.coordinate_size
            r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
            key.verify(encode_dss_signature(r, s), message, ec.ECDSA(algorithm.hash))
        case ed25519.Ed25519PublicKey():
            key.verify(signature, message)
        case _:
            raise InvalidSignature
