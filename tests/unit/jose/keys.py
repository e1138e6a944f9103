"""Keys for the tests. Elliptic keys come from small scalars, so that they can be rebuilt. RSA keys are generated once per run."""

from __future__ import annotations

import base64
import json
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.jose.algorithms import ALGORITHMS, Algorithm, PublicKey
from sealwright.jose.jwk import Jwk, jwk_set
from sealwright.jose.signatures import SignatureEncoding, normalise

MlDsaKey = mldsa.MLDSA44PrivateKey | mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | MlDsaKey

CURVES: dict[str, type[ec.EllipticCurve]] = {
    "P-256": ec.SECP256R1,
    "P-384": ec.SECP384R1,
    "P-521": ec.SECP521R1,
    "secp256k1": ec.SECP256K1,
}

ML_DSA: dict[str, type[MlDsaKey]] = {
    "ML-DSA-44": mldsa.MLDSA44PrivateKey,
    "ML-DSA-65": mldsa.MLDSA65PrivateKey,
    "ML-DSA-87": mldsa.MLDSA87PrivateKey,
}


SIGNING = {name: a for name, a in ALGORITHMS.items() if not a.symmetric}
"""The algorithms whose keys have a public key."""


def elliptic(curve: str, scalar: int) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(scalar, CURVES[curve]())


@cache
def rsa_key(bits: int, which: int = 0) -> rsa.RSAPrivateKey:
    """Return one of several keys of a size; `which` selects it."""
    assert which >= 0
    return rsa.generate_private_key(65537, bits)


def edwards(which: int = 0) -> ed25519.Ed25519PrivateKey:
    return ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(which, which + 32)))


def ml_dsa(name: str, which: int = 0) -> MlDsaKey:
    """Return a key from a seed: for 0, the key of RFC 9964."""
    return ML_DSA[name].from_seed_bytes(bytes([which]) * 32)


def key_for(algorithm: Algorithm, which: int = 0) -> PrivateKey:
    match algorithm.kind.kty:
        case "RSA":
            return rsa_key(2048, which)
        case "EC":
            return elliptic(algorithm.kind.name, 7 + which)
        case "OKP":
            return edwards(which)
        case "AKP":
            return ml_dsa(algorithm.name, which)
        case _:
            raise AssertionError("only a KMS has a secret key")


def sign(key: PrivateKey, algorithm: Algorithm, message: bytes) -> bytes:
    """Sign as a KMS does, and convert the answer to JOSE form."""
    if isinstance(key, ed25519.Ed25519PrivateKey | MlDsaKey):
        return normalise(key.sign(message), SignatureEncoding.OPAQUE, algorithm)
    assert algorithm.hash is not None
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return normalise(key.sign(message, ec.ECDSA(algorithm.hash)), SignatureEncoding.DER, algorithm)
    pad: padding.AsymmetricPadding = padding.PKCS1v15()
    if algorithm.name.startswith("PS"):
        pad = padding.PSS(padding.MGF1(algorithm.hash), algorithm.hash.digest_size)
    return normalise(key.sign(message, pad, algorithm.hash), SignatureEncoding.OPAQUE, algorithm)


def spki(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def number(text: str) -> int:
    return int.from_bytes(decode(text), "big")


def from_members(members: dict[str, str]) -> PublicKey:
    match members["kty"]:
        case "RSA":
            return rsa.RSAPublicNumbers(number(members["e"]), number(members["n"])).public_key()
        case "EC":
            curve = CURVES[members["crv"]]()
            return ec.EllipticCurvePublicNumbers(number(members["x"]), number(members["y"]), curve).public_key()
        case _:
            return ed25519.Ed25519PublicKey.from_public_bytes(decode(members["x"]))


def published(*jwks: Jwk) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = json.loads(jwk_set(jwks))["keys"]
    return keys
