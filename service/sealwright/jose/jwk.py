"""Public keys as JSON Web Keys (RFC 7517, RFC 7518 §6, RFC 8037 §2, RFC 9964).

The types here have only public members, so that a private one cannot be published by mistake (RFC 7517 §9.2).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from sealwright.jose import base64url
from sealwright.jose.algorithms import KEY_KINDS, Algorithm, PublicKey
from sealwright.jose.key_kinds import KeyKind


class KeyFormatError(ValueError):
    """The bytes are not a public key that one of our JWS algorithms can use."""


@dataclass(frozen=True, slots=True)
class Jwk:
    """A public key for one algorithm.

    Attributes:
        kid: RFC 7638 thumbprint.
        alg: The only algorithm that the key signs with. It equals the `alg` of its tokens.
        members: `kty` and the members that define the key, in the order of RFC 7638 (lexicographic).
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
        KeyFormatError: It is malformed, or of a kind, curve or size that no algorithm in our table uses, or verifiers could not
            read it: an RSA public exponent has at most 31 bits.
    """
    try:
        key = load_der_public_key(spki)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise KeyFormatError("not a public key in SubjectPublicKeyInfo form") from e
    _kind_of(key)
    return key


def _kind_of(key: PublicKey) -> KeyKind:
    """Return the kind of a key, which common verifiers can read."""
    kind = next((kind for kind in KEY_KINDS.values() if kind.fits(key)), None)
    if kind is None:
        raise KeyFormatError("a kind, curve or size of key that none of our JWS algorithms uses")
    problem = kind.problem(key)
    if problem is not None:
        raise KeyFormatError(problem)
    return kind


def _canonical(members: object) -> bytes:
    return json.dumps(members, separators=(",", ":")).encode("ascii")


def thumbprint(key: PublicKey) -> str:
    """Return the RFC 7638 SHA-256 thumbprint, base64url. It is the same in every KMS.

    Raises:
        KeyFormatError: No algorithm in our table uses such a key.
    """
    return base64url.encode(hashlib.sha256(_canonical(dict(_kind_of(key).members(key)))).digest())


def key_id(spki: bytes | None, uri: str) -> str:
    """Return the kid of a key: the thumbprint of its public half, or, for a secret key, base64url(SHA-256(pinned URI)).

    Args:
        spki: SubjectPublicKeyInfo, DER; None for a secret key.
        uri: Pinned key URI.

    Raises:
        KeyFormatError: The bytes are not a public key that we can use.
    """
    if spki is None:
        return base64url.encode(hashlib.sha256(uri.encode()).digest())
    return thumbprint(load_public_key(spki))


def to_jwk(key: PublicKey, algorithm: Algorithm) -> Jwk:
    """Return the JWK of a key that signs with one algorithm.

    Raises:
        KeyFormatError: The algorithm may not be used with the key.
    """
    if not algorithm.fits(key):
        raise KeyFormatError(f"{algorithm.name} cannot be used with this kind or size of key")
    return Jwk(kid=thumbprint(key), alg=algorithm.name, members=algorithm.kind.members(key))


def to_pem(key: PublicKey) -> bytes:
    """Return a key as PEM: the textual encoding of its SubjectPublicKeyInfo (RFC 7468 §13)."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def jwk_set(jwks: Iterable[Jwk]) -> bytes:
    """Return a JWK Set (RFC 7517 §5) as it is served: the same bytes for the same keys, in any order.

    Raises:
        ValueError: Two keys share a kid (RFC 7517 §4.5).
    """
    by_kid: dict[str, Jwk] = {}
    for jwk in jwks:
        if jwk.kid in by_kid:
            raise ValueError("two keys of one JWK Set share a kid")
        by_kid[jwk.kid] = jwk
    return _canonical({"keys": [by_kid[kid].as_dict() for kid in sorted(by_kid)]})
