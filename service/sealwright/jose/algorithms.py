"""The one table of JWS algorithms: whatever depends on an algorithm is a column here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey

MIN_RSA_BITS: Final = 2048
"""RFC 7518 §3.3: a key of 2048 bits or larger."""


class Scheme(StrEnum):
    """The kind of signature."""

    RSA_PKCS1 = "RSASSA-PKCS1-v1_5"
    RSA_PSS = "RSASSA-PSS"
    ECDSA = "ECDSA"
    EDDSA = "EdDSA"
    HMAC = "HMAC"


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A JWS algorithm.

    Attributes:
        name: The `alg` value, compared case-sensitively (RFC 7515 §4.1.1).
        scheme: The kind of signature.
        hash: The hash of the signing input; None where the scheme takes the message itself.
        curve: Curve of the key, for ECDSA.
        crv: The JWK's `crv`, for elliptic curves.
        coordinate_size: Bytes of one coordinate, for ECDSA: r and s have the same (RFC 7518 §3.4).
        common: Whether every common library can read such a key in a JWK Set.
    """

    name: str
    scheme: Scheme
    hash: hashes.HashAlgorithm | None = None
    curve: type[ec.EllipticCurve] | None = None
    crv: str | None = None
    coordinate_size: int = 0
    common: bool = True

    @property
    def symmetric(self) -> bool:
        """Whether who verifies needs the secret itself: such a key has no public half and is never published."""
        return self.scheme is Scheme.HMAC

    def digest(self, message: bytes) -> bytes:
        """Hash a message with the algorithm's hash.

        Raises:
            ValueError: The algorithm signs messages, not digests.
        """
        if self.hash is None or self.symmetric:
            msg = f"{self.name} signs the message itself"
            raise ValueError(msg)
        state = hashes.Hash(self.hash)
        state.update(message)
        return state.finalize()

    def fits(self, key: PublicKey | None) -> bool:
        """Tell whether the algorithm may be used with the key (RFC 8725 §3.1): its type, curve and size. None: a secret key."""
        match self.scheme:
            case Scheme.RSA_PKCS1 | Scheme.RSA_PSS:
                return isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS
            case Scheme.ECDSA:
                return (
                    isinstance(key, ec.EllipticCurvePublicKey)
                    and self.curve is not None
                    and isinstance(key.curve, self.curve)
                )
            case Scheme.EDDSA:
                return isinstance(key, ed25519.Ed25519PublicKey)
            case Scheme.HMAC:
                return key is None

    def signature_size(self, key: PublicKey | None) -> int:
        """Return the length in bytes of every JOSE signature by that key: 2n for ECDSA, the modulus for RSA, the hash for HMAC."""
        if self.symmetric and self.hash is not None:
            return self.hash.digest_size
        if isinstance(key, rsa.RSAPublicKey):
            return (key.key_size + 7) // 8
        return 2 * self.coordinate_size or 64


_SHA256, _SHA384, _SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()

ALGORITHMS: Final = MappingProxyType(
    {
        a.name: a
        for a in (
            Algorithm("RS256", Scheme.RSA_PKCS1, _SHA256),
            Algorithm("RS384", Scheme.RSA_PKCS1, _SHA384),
            Algorithm("RS512", Scheme.RSA_PKCS1, _SHA512),
            Algorithm("PS256", Scheme.RSA_PSS, _SHA256),
            Algorithm("PS384", Scheme.RSA_PSS, _SHA384),
            Algorithm("PS512", Scheme.RSA_PSS, _SHA512),
            Algorithm("ES256", Scheme.ECDSA, _SHA256, ec.SECP256R1, "P-256", 32),
            Algorithm("ES384", Scheme.ECDSA, _SHA384, ec.SECP384R1, "P-384", 48),
            Algorithm("ES512", Scheme.ECDSA, _SHA512, ec.SECP521R1, "P-521", 66),
            Algorithm("ES256K", Scheme.ECDSA, _SHA256, ec.SECP256K1, "secp256k1", 32, common=False),
            Algorithm("EdDSA", Scheme.EDDSA, crv="Ed25519", common=False),
            Algorithm("Ed25519", Scheme.EDDSA, crv="Ed25519", common=False),
            Algorithm("HS256", Scheme.HMAC, _SHA256),
            Algorithm("HS384", Scheme.HMAC, _SHA384),
            Algorithm("HS512", Scheme.HMAC, _SHA512),
        )
    },
)
"""By name. `EdDSA` (RFC 8037) and `Ed25519` (RFC 9864) are two names for one signature: which of them a key uses is configured,
since many verifiers know only the first."""
