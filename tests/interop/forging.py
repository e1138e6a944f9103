"""Tokens that the service never signed, made without any of its code."""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_CURVES: dict[str, tuple[ec.EllipticCurve, int]] = {
    "ES256": (ec.SECP256R1(), 32),
    "ES384": (ec.SECP384R1(), 48),
    "ES512": (ec.SECP521R1(), 66),
    "ES256K": (ec.SECP256K1(), 32),
}


def decode(text: str) -> bytes:
    """Decode base64url without padding."""
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def encode(data: bytes) -> str:
    """Encode as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Stranger:
    """Signs what good tokens say with keys that the service never had."""

    def __init__(self) -> None:
        self._rsa: dict[int, rsa.RSAPrivateKey] = {}

    def sign(self, good: str, kid: str) -> str:
        """Return the token with another kid and another key's signature, of the same kind and size."""
        header, claims, signature = good.split(".")
        fields: dict[str, Any] = json.loads(decode(header))
        changed = encode(json.dumps({**fields, "kid": kid}, separators=(",", ":")).encode())
        signed = f"{changed}.{claims}"
        return f"{signed}.{encode(self._signature(fields['alg'], signed.encode(), 8 * len(decode(signature))))}"

    def _signature(self, algorithm: str, message: bytes, bits: int) -> bytes:
        if algorithm in _CURVES:
            curve, size = _CURVES[algorithm]
            der = ec.generate_private_key(curve).sign(message, ec.ECDSA(_HASHES[algorithm[2:5]]))
            return b"".join(number.to_bytes(size) for number in decode_dss_signature(der))
        if algorithm in {"EdDSA", "Ed25519"}:
            return ed25519.Ed25519PrivateKey.generate().sign(message)
        if algorithm == "ML-DSA-65":
            return mldsa.MLDSA65PrivateKey.generate().sign(message)
        if bits not in self._rsa:
            self._rsa[bits] = rsa.generate_private_key(65537, bits)
        digest = _HASHES[algorithm[2:]]
        pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return self._rsa[bits].sign(message, pss if algorithm.startswith("PS") else padding.PKCS1v15(), digest)
