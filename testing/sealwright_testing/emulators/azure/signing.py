"""Real key material. No key leaves this process, and none outlives it."""

from __future__ import annotations

import base64
import hmac
import secrets

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from .specs import CURVES, hash_of

Material = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | bytes

_EXPONENT = 65537


def generate(family: str, *, size: int, curve: str) -> Material:
    """Return fresh key material of a family: `RSA`, `EC` or `oct`."""
    if family == "RSA":
        return rsa.generate_private_key(_EXPONENT, size)
    if family == "EC":
        return ec.generate_private_key(CURVES[curve]())
    return secrets.token_bytes(size // 8)


def like(material: Material) -> Material:
    """Return fresh material of the same kind and size."""
    if isinstance(material, rsa.RSAPrivateKey):
        return rsa.generate_private_key(_EXPONENT, material.key_size)
    if isinstance(material, ec.EllipticCurvePrivateKey):
        return ec.generate_private_key(material.curve)
    return secrets.token_bytes(len(material))


def sign(material: Material, algorithm: str, value: bytes) -> bytes:
    """Return a signature as Key Vault encodes it: r and s joined for EC, the bare bytes otherwise.

    Args:
        material: Material that fits the algorithm.
        algorithm: The JWS name.
        value: The digest; for HMAC what is to be authenticated.
    """
    chosen = hash_of(algorithm)
    if isinstance(material, bytes):
        return hmac.digest(material, value, chosen.name)
    if isinstance(material, ec.EllipticCurvePrivateKey):
        r, s = utils.decode_dss_signature(material.sign(value, ec.ECDSA(utils.Prehashed(chosen))))
        size = (material.curve.key_size + 7) // 8
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    return material.sign(value, _padding(algorithm), utils.Prehashed(chosen))


def verify(material: Material, algorithm: str, value: bytes, signature: bytes) -> bool:
    """Return whether a signature over a digest is right."""
    chosen = hash_of(algorithm)
    if isinstance(material, bytes):
        return hmac.compare_digest(signature, sign(material, algorithm, value))
    try:
        if isinstance(material, ec.EllipticCurvePrivateKey):
            half = len(signature) // 2
            r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
            der = utils.encode_dss_signature(r, s)
            material.public_key().verify(der, value, ec.ECDSA(utils.Prehashed(chosen)))
        else:
            material.public_key().verify(signature, value, _padding(algorithm), utils.Prehashed(chosen))
    except InvalidSignature:
        return False
    return True


def public_members(material: Material, curve: str | None) -> dict[str, str]:
    """Return the public members of the key's JWK, with Azure's name of the curve. A secret has none."""
    if isinstance(material, bytes):
        return {}
    if isinstance(material, ec.EllipticCurvePrivateKey):
        point = material.public_key().public_numbers()
        size = (material.curve.key_size + 7) // 8
        return {
            "crv": str(curve),
            "x": encode(point.x.to_bytes(size, "big")),
            "y": encode(point.y.to_bytes(size, "big")),
        }
    numbers = material.public_key().public_numbers()
    return {"n": encode(_octets(numbers.n)), "e": encode(_octets(numbers.e))}


def encode(value: bytes) -> str:
    """Return base64url without padding."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """Read base64url, with or without padding.

    Raises:
        ValueError: The text is anything else.
    """
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), altchars=b"-_", validate=True)


def _octets(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def _padding(algorithm: str) -> padding.AsymmetricPadding:
    if algorithm.startswith("RS"):
        return padding.PKCS1v15()
    chosen = hash_of(algorithm)
    # RFC 7518 §3.5: the salt is as long as the hash.
    return padding.PSS(padding.MGF1(chosen), chosen.digest_size)
