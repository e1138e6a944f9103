"""Public keys: from attributes to SubjectPublicKeyInfo.

CKA_EC_POINT is a DER OCTET STRING around the point (v2.40 §2.3.3), and some modules leave the wrapping away. Both begin with
04, the tag of an OCTET STRING and the mark of an uncompressed point, so that only the exact length tells them apart.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.jose.algorithms import ALGORITHMS, PublicKey
from sealwright.jose.jwk import KeyFormatError

_UNCOMPRESSED: Final = 0x04
_OCTET_STRING: Final = 0x04
_BIT_STRING: Final = 0x03
_ED25519_BYTES: Final = 32
_ED25519_SPKI: Final = bytes.fromhex("302a300506032b6570032100")
_SHORT_LENGTHS: Final = 0x80


def spki(key: PublicKey) -> bytes:
    """Return a key as SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_key(modulus: bytes, exponent: bytes) -> PublicKey:
    """Return the key of CKA_MODULUS and CKA_PUBLIC_EXPONENT, both big-endian (v2.40 §2.1.2).

    Raises:
        KeyFormatError: They make no RSA key.
    """
    try:
        return rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()
    except ValueError as e:
        raise KeyFormatError("no RSA public key") from e


def curve_key(crv: str, ec_point: bytes) -> PublicKey:
    """Return the key of a curve and CKA_EC_POINT.

    Raises:
        KeyFormatError: It is no point of that curve, in no form that modules are known to answer.
    """
    try:
        if crv == "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(_ed25519_bytes(ec_point))
        curve = next(a.curve for a in ALGORITHMS.values() if a.crv == crv and a.curve is not None)()
        return ec.EllipticCurvePublicKey.from_encoded_point(curve, _point(ec_point, curve.key_size))
    except (ValueError, StopIteration) as e:
        raise KeyFormatError("no public key on its curve") from e


def _point(value: bytes, bits: int) -> bytes:
    """Return the uncompressed point of a CKA_EC_POINT (X9.62; 65 bytes for P-256, 67 when wrapped)."""
    size = 1 + 2 * ((bits + 7) // 8)
    header = _header(_OCTET_STRING, size)
    if len(value) == len(header) + size and value.startswith(header):
        value = value[len(header) :]
    if len(value) != size or value[0] != _UNCOMPRESSED:
        raise KeyFormatError("neither an uncompressed point nor one in an OCTET STRING")
    return value


def _ed25519_bytes(value: bytes) -> bytes:
    """Return the 32 bytes of RFC 8032 §5.1.5: modules answer them bare, in an OCTET STRING, a BIT STRING or a whole key."""
    wrappings = (
        b"",
        _header(_OCTET_STRING, _ED25519_BYTES),
        _header(_BIT_STRING, _ED25519_BYTES + 1) + b"\0",
        _ED25519_SPKI,
    )
    for wrapping in wrappings:
        if len(value) == len(wrapping) + _ED25519_BYTES and value.startswith(wrapping):
            return value[len(wrapping) :]
    raise KeyFormatError("no Ed25519 public key")


def _header(tag: int, length: int) -> bytes:
    """Return tag and length in DER (X.690 §8.1.3): the long form from 128 on, as a wrapped P-521 point has it."""
    if length < _SHORT_LENGTHS:
        return bytes((tag, length))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, _SHORT_LENGTHS | len(octets))) + octets
