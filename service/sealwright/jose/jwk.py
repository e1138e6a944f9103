"""Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037 §2).

The types here have public members only, so a private one cannot be published by mistake (RFC 7517 §9.2).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from sealwright.jose import base64url
from sealwright.jose.algorithms import ALGORITHMS, Algorithm, PublicKey


class KeyFormatError(ValueError):
    """The bytes are no public key that a JWS algorithm of ours can be used with."""


@dataclass(frozen=True, slots=True)
class Jwk:
    """A public key for one algorithm.

    Attributes:
        kid: RFC 7638 thumbprint.
        alg: The only algorithm that the key signs with; equals the `alg` of its tokens.
        members: `kty` and the members that make the key, in the order of RFC 7638 (lexicographic).
    """

    kid: str
    alg: str
    members: tuple[tuple[str, str], ...]

    def as_dict(self) -> dict[str, str]:
        """Return the JWK as it is published, with `use` `sig` (RFC 7517 §4.2)."""
        return {**dict(self.members), "use": "sig", "alg": self.alg, "kid": self.kid}


def load_public_key(spki: bytes) -> PublicKey:
    """Read a SubjectPublicKeyInfo (RFC 5280 §4.1), DER.

    Raises:
        KeyFormatError: It is malformed, or of a kind, curve or size that no algorithm in our table uses.
    """
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise KeyFormatError("not a public key in SubjectPublicKeyInfo form") from e
    if not isinstance(key, PublicKey) or not any(a.fits(key) for a in ALGORITHMS.values()):
        raise KeyFormatError("a kind, curve or size of key that no JWS algorithm here uses")
    return key


def _uint(value: int, size: int | None = None) -> str:
    """Base64urlUInt of RFC 7518 §2, or, with a size, the full-width octets of §6.2.1.2."""
    return base64url.encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def _members(key: PublicKey) -> tuple[tuple[str, str], ...]:
    """Return the members required by RFC 7638 §3.2, in lexicographic order."""
    match key:
        case rsa.RSAPublicKey():
            numbers = key.public_numbers()
            return (("e", _uint(numbers.e)), ("kty", "RSA"), ("n", _uint(numbers.n)))
        case ec.EllipticCurvePublicKey():
            curve = next((a for a in ALGORITHMS.values() if a.curve and isinstance(key.curve, a.curve)), None)
            if curve is None or curve.crv is None:
                raise KeyFormatError("a curve that no JWS algorithm here uses")
            point = key.public_numbers()
            size = curve.coordinate_size
            return (("crv", curve.crv), ("kty", "EC"), ("x", _uint(point.x, size)), ("y", _uint(point.y, size)))
        case ed25519.Ed25519PublicKey():
            raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
            return (("crv", "Ed25519"), ("kty", "OKP"), ("x", base64url.encode(raw)))
    raise KeyFormatError("a kind of key that no JWS algorithm here uses")


def _canonical(members: object) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode("ascii")


def thumbprint(key: PublicKey) -> str:
    """Return the RFC 7638 SHA-256 thumbprint, base64url: the same wherever the key is held."""
    return base64url.encode(hashlib.sha256(_canonical(dict(_members(key)))).digest())


def key_id(spki: bytes, uri: str) -> str:
    """Return the kid of a key: the thumbprint of its public half, or, for a secret key, base64url(SHA-256(pinned URI)).

    Args:
        spki: SubjectPublicKeyInfo, DER; empty for a secret key.
        uri: Pinned key URI.

    Raises:
        KeyFormatError: The bytes are no public key.
    """
    if not spki:
        return base64url.encode(hashlib.sha256(uri.encode()).digest())
    return thumbprint(load_public_key(spki))


def to_jwk(key: PublicKey, algorithm: Algorithm) -> Jwk:
    """Return the JWK of a key that signs with one algorithm.

    Raises:
        KeyFormatError: The algorithm may not be used with the key.
    """
    if not algorithm.fits(key):
        raise KeyFormatError(f"{algorithm.name} cannot be used with this kind or size of key")
    return Jwk(kid=thumbprint(key), alg=algorithm.name, members=_members(key))


def to_pem(key: PublicKey) -> bytes:
    """Return a key as PEM: the textual encoding of its SubjectPublicKeyInfo (RFC 7468 §13)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk_set(jwks: Iterable[Jwk]) -> bytes:
    """Return a JWK Set (RFC 7517 §5) as it is served: the same bytes for the same keys, whatever their order.

    Raises:
        ValueError: Two keys share a kid (RFC 7517 §4.5).
    """
    by_kid: dict[str, Jwk] = {}
    for jwk in jwks:
        if jwk.kid in by_kid:
            raise ValueError("two keys of one JWK Set share a kid")
        by_kid[jwk.kid] = jwk
    return _canonical({"keys": [by_kid[kid].as_dict() for kid in sorted(by_kid)]})
