"""Public keys: from attributes to SubjectPublicKeyInfo.

CKA_EC_POINT is a DER OCTET STRING with the point (v2.40 §2.3.3). Some modules omit the OCTET STRING, and for Edwards curves some
return a BIT STRING or a whole SubjectPublicKeyInfo. A bare point and an OCTET STRING both begin with 04 (the mark of an
uncompressed point, and the tag), so only the exact bytes tell them apart.
"""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.provider import KEY_KINDS, KeyFormatError, PublicKey

_OCTET_STRING: Final = 0x04
_BIT_STRING: Final = 0x03
_SHORT_LENGTHS: Final = 0x80


def spki(key: PublicKey) -> bytes:
    """Return a key as SubjectPublicKeyInfo, DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def rsa_key(modulus: bytes, exponent: bytes) -> PublicKey:
    """Return the key of CKA_MODULUS and CKA_PUBLIC_EXPONENT, both big-endian (v2.40 §2.1.2).

    Raises:
        KeyFormatError: They are not an RSA key.
    """
    try:
        return rsa.RSAPublicNumbers(int.from_bytes(exponent, "big"), int.from_bytes(modulus, "big")).public_key()
    except ValueError as e:
        raise KeyFormatError("not an RSA public key") from e


def curve_key(crv: str, ec_point: bytes) -> PublicKey:
    """Return the key of a curve and CKA_EC_POINT.

    Raises:
        KeyFormatError: The curve is unknown, or the bytes are not a point of it in a form that modules are known to return.
    """
    kind = KEY_KINDS.get(crv)
    if kind is None or kind.from_point is None:
        raise KeyFormatError("a curve that none of our JWS algorithms uses")
    point = ec_point[-kind.public_size :]
    try:
        key = kind.from_point(point)
    except ValueError as e:
        raise KeyFormatError("not a public key on its curve") from e
    forms = {point, _der(_OCTET_STRING, point), _der(_BIT_STRING, b"\0" + point), spki(key)}
    if len(point) != kind.public_size or ec_point not in forms:
        raise KeyFormatError("neither a bare point nor one in an OCTET STRING, a BIT STRING or a SubjectPublicKeyInfo")
    return key


def _der(tag: int, value: bytes) -> bytes:
    """Return a value with its tag and length in DER (X.690 §8.1.3). The length is in the long form from 128 on, as for P-521."""
    size = len(value)
    if size < _SHORT_LENGTHS:
        return bytes((tag, size)) + value
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, _SHORT_LENGTHS | len(octets))) + octets + value
