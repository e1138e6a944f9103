"""Ed25519ph, which AWS KMS calls ED25519_PH_SHA_512 and pyca/cryptography does not have. RFC 8032, section 5.1.

It is slow (milliseconds) and its time depends on the key, so use it only in an emulator. EdDSA of JOSE is another algorithm:
a signature made here never verifies as EdDSA.
"""

from __future__ import annotations

import hashlib
from typing import Final

_P: Final = 2**255 - 19
_L: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
_SQRT_MINUS_1: Final = pow(2, (_P - 1) // 4, _P)
_DOM2: Final = b"SigEd25519 no Ed25519 collisions\x01\x00"
_SIGNATURE_BYTES: Final = 64
_HALF: Final = 32

# x, y, z and t of extended homogeneous coordinates: x/z and y/z are the affine ones, and t = xy/z.
_Point = tuple[int, int, int, int]


def sign(seed: bytes, message: bytes) -> bytes:
    """Return the 64-byte signature of `message` by the private key `seed` (32 bytes)."""
    secret = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(secret[:_HALF], "little") & ((1 << 254) - 8) | (1 << 254)
    public = _compress(_multiply(scalar, _BASE))
    prehash = hashlib.sha512(message).digest()
    nonce = _hash_to_int(secret[_HALF:], prehash)
    commitment = _compress(_multiply(nonce, _BASE))
    answer = (nonce + _hash_to_int(commitment, public, prehash) * scalar) % _L
    return commitment + answer.to_bytes(_HALF, "little")


def verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether `signature` is one of `message` by the holder of the public key `public` (32 bytes)."""
    if len(signature) != _SIGNATURE_BYTES:
        return False
    commitment, answer = signature[:_HALF], int.from_bytes(signature[_HALF:], "little")
    key, point = _decompress(public), _decompress(commitment)
    if key is None or point is None or answer >= _L:
        return False
    challenge = _hash_to_int(commitment, public, hashlib.sha512(message).digest())
    return _compress(_multiply(answer, _BASE)) == _compress(_add(point, _multiply(challenge, key)))


def _hash_to_int(*parts: bytes) -> int:
    return int.from_bytes(hashlib.sha512(_DOM2 + b"".join(parts)).digest(), "little") % _L


def _add(p: _Point, q: _Point) -> _Point:
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _multiply(scalar: int, point: _Point) -> _Point:
    result: _Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            result = _add(result, point)
        point = _add(point, point)
        scalar >>= 1
    return result


def _recover_x(y: int, sign_bit: int) -> int | None:
    square = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    x = pow(square, (_P + 3) // 8, _P)
    if (x * x - square) % _P:
        x = x * _SQRT_MINUS_1 % _P
    if (x * x - square) % _P or (x == 0 and sign_bit):
        return None
    return _P - x if x & 1 != sign_bit else x


def _compress(point: _Point) -> bytes:
    inverse = pow(point[2], -1, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(_HALF, "little")


def _decompress(data: bytes) -> _Point | None:
    number = int.from_bytes(data, "little")
    y = number & ((1 << 255) - 1)
    x = _recover_x(y, number >> 255) if y < _P else None
    return None if x is None else (x, y, 1, x * y % _P)


def _base_point() -> _Point:
    point = _decompress((4 * pow(5, -1, _P) % _P).to_bytes(_HALF, "little"))
    if point is None:
        raise AssertionError("the base point of RFC 8032 is on the curve")
    return point


_BASE: Final = _base_point()
