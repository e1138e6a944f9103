"""The one table of JWS algorithms. All that depends on an algorithm is a column here, or belongs to its kind of key."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from sealwright.jose import key_kinds as kinds
from sealwright.jose import readers
from sealwright.jose.key_kinds import MIN_RSA_BITS, KeyKind, PublicKey, Verifier
from sealwright.jose.readers import Readers

__all__ = ["ALGORITHMS", "KEY_KINDS", "MIN_RSA_BITS", "Algorithm", "PublicKey"]

_HASHES: Final = {"sha256": hashlib.sha256, "sha384": hashlib.sha384, "sha512": hashlib.sha512}
_JWK_OVERHEAD: Final = 130
"""Bytes of a JWK in a set beside the public key: names, kid, alg and use."""


@dataclass(frozen=True, slots=True)
class Algorithm:
    """A JWS algorithm.

    Attributes:
        name: The `alg` value, compared case-sensitively (RFC 7515 §4.1.1).
        kind: The kind of key that signs with it.
        hash: The hash of the signing input; None: the message itself is signed.
        padding: The padding, for RSA.
        dropped_by: Libraries that drop a whole JWK Set because of one such key in it.
    """

    name: str
    kind: KeyKind
    hash: hashes.HashAlgorithm | None = None
    padding: padding.AsymmetricPadding | None = None
    dropped_by: Readers = readers.EVERYBODY_READS
    _verifier: Verifier = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_verifier", self.kind.verifier(self.hash, self.padding))

    @property
    def common(self) -> bool:
        """Whether every common library can read a JWK Set with such a key."""
        return not self.dropped_by

    @property
    def symmetric(self) -> bool:
        """Whether a verifier needs the secret itself. Such a key has no public half and is never published."""
        return self.kind.secret

    @property
    def prehashed(self) -> bool:
        """Whether a KMS can sign a digest in place of the message."""
        return self.hash is not None and not self.kind.secret

    @property
    def two_integers(self) -> bool:
        """Whether a signature is the integers r and s, which backends encode in different ways; otherwise it is opaque bytes."""
        return self.kind.coordinate_size > 0

    @property
    def has_representative(self) -> bool:
        """Whether a KMS can sign a short representative in place of the message, computed from the message and the public key."""
        return self.kind.representative is not None

    @property
    def available(self) -> bool:
        """Whether this installation can verify its signatures. OpenSSL before 3.5 has no ML-DSA."""
        return self.kind.available()

    @property
    def takes_rsa_bits(self) -> bool:
        """Whether `rsa_bits` chooses the size of its keys."""
        return self.kind.sized

    def digest(self, message: bytes) -> bytes:
        """Hash a message with the algorithm's hash.

        Raises:
            ValueError: The algorithm signs messages, not digests.
        """
        if self.hash is None or self.kind.secret:
            raise ValueError(f"{self.name} signs the message itself")
        return _HASHES[self.hash.name](message).digest()

    def representative(self, key: PublicKey, message: bytes) -> bytes:
        """Compute the message representative, which depends on the key: mu (FIPS 204 §6.2), 64 bytes, with an empty context.

        Args:
            key: A public key that fits.
            message: The signing input.

        Raises:
            ValueError: The algorithm has no representative.
        """
        if self.kind.representative is None:
            raise ValueError(f"{self.name} has no message representative")
        return self.kind.representative(key, message)

    def fits(self, key: PublicKey | None) -> bool:
        """Tell whether the algorithm may be used with the key (RFC 8725 §3.1): its type, curve and size. None: a secret key."""
        return self.kind.fits(key)

    def signature_size(self, key: PublicKey | None) -> int:
        """Return the bytes of every JOSE signature by a key that fits: 2n for ECDSA, the modulus for RSA, the hash for HMAC."""
        if self.kind.signature_size is not None:
            return self.kind.signature_size(key)
        return self.hash.digest_size if self.hash is not None else 0

    def verify(self, key: PublicKey, signature: bytes, message: bytes) -> None:
        """Verify a JOSE signature of the right size by a key that fits.

        Raises:
            InvalidSignature: The key did not make it over this message.
        """
        self._verifier(key, signature, message)

    def jwk_size(self, rsa_bits: int) -> int:
        """Return about how many bytes a key takes in a JWK Set.

        Args:
            rsa_bits: Size of the modulus; used for RSA only.
        """
        if self.kind.secret:
            return 0
        public = rsa_bits // 8 if self.kind.sized else self.kind.public_size
        return public * 4 // 3 + _JWK_OVERHEAD


_SHA256, _SHA384, _SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()
_PKCS1 = padding.PKCS1v15()


def _pss(hash_: hashes.HashAlgorithm) -> padding.PSS:
    """Return the padding of RFC 7518 §3.5: a salt exactly as long as the hash."""
    return padding.PSS(padding.MGF1(hash_), hash_.digest_size)


ALGORITHMS: Final = MappingProxyType(
    {
        a.name: a
        for a in (
            Algorithm("RS256", kinds.RSA, _SHA256, _PKCS1),
            Algorithm("RS384", kinds.RSA, _SHA384, _PKCS1),
            Algorithm("RS512", kinds.RSA, _SHA512, _PKCS1),
            Algorithm("PS256", kinds.RSA, _SHA256, _pss(_SHA256)),
            Algorithm("PS384", kinds.RSA, _SHA384, _pss(_SHA384)),
            Algorithm("PS512", kinds.RSA, _SHA512, _pss(_SHA512)),
            Algorithm("ES256", kinds.P256, _SHA256),
            Algorithm("ES384", kinds.P384, _SHA384),
            Algorithm("ES512", kinds.P521, _SHA512, dropped_by=readers.NOT_P521),
            Algorithm("ES256K", kinds.SECP256K1, _SHA256, dropped_by=readers.NOT_SECP256K1),
            Algorithm("EdDSA", kinds.ED25519, dropped_by=readers.NOT_EDDSA),
            Algorithm("Ed25519", kinds.ED25519, dropped_by=readers.NOT_ED25519),
            Algorithm("ML-DSA-44", kinds.ML_DSA_44, dropped_by=readers.NOT_AKP),
            Algorithm("ML-DSA-65", kinds.ML_DSA_65, dropped_by=readers.NOT_AKP),
            Algorithm("ML-DSA-87", kinds.ML_DSA_87, dropped_by=readers.NOT_AKP),
            Algorithm("HS256", kinds.SECRET, _SHA256),
            Algorithm("HS384", kinds.SECRET, _SHA384),
            Algorithm("HS512", kinds.SECRET, _SHA512),
        )
    },
)
"""By name. `EdDSA` (RFC 8037) and `Ed25519` (RFC 9864) name the same signature. The configuration chooses the name that a key
uses, since many verifiers know only the first."""

KEY_KINDS: Final = MappingProxyType({a.kind.name: a.kind for a in ALGORITHMS.values()})
"""The kinds of keys that the algorithms use, by name."""
