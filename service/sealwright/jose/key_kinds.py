"""Kinds of keys: RSA, each curve of EC and OKP, each parameter set of ML-DSA, and secrets.

A kind knows all that depends on the key alone: its JWK members, which keys belong to it, how long a signature is, and how it is
verified. Only this module handles the key classes of `cryptography`. Each algorithm of the key type `AKP` (RFC 9964: the members
are `alg`, `kty` and `pub`) has a kind of its own, whose members name the algorithm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes as PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.jose import base64url

__all__ = ["MIN_RSA_BITS", "KeyKind", "Members", "PublicKey", "Verifier"]

MIN_RSA_BITS: Final = 2048
"""RFC 7518 §3.3: a key of 2048 bits or larger."""

_MAX_RSA_EXPONENT: Final = 2**31 - 1
"""Go refuses a larger public exponent (crypto/rsa: "public exponent too large")."""

Members = tuple[tuple[str, str], ...]
"""JWK members in lexicographic order."""

Verifier = Callable[[Any, bytes, bytes], None]
"""Takes a public key of the kind, a JOSE signature and the message. Raises InvalidSignature."""

_MlDsaKey = mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class KeyKind:
    """A kind of key. Its functions take only keys that fit it.

    Attributes:
        kty: The JWK's `kty` (RFC 7518 §6.1).
        name: Unique name: the JWK's `crv` where it has one, else `kty`. Providers use it as the key of their tables.
        fits: Tells whether a key is of this kind (RFC 8725 §3.1): its type, curve and size. None is a secret key.
        members: Returns the members that RFC 7638 §3.2 requires for the thumbprint, in lexicographic order.
        signature_size: Returns the bytes of every JOSE signature by the key; None: the size of the hash.
        verifier: Returns the function that verifies signatures made with a hash and a padding.
        problem: Returns why common verifiers cannot read the key; None: they can.
        public_size: Bytes of the public key alone: an uncompressed point (X9.62), or the octets of RFC 8032 or FIPS 204; 0: it
            varies (RSA), or there is no public key.
        from_point: Returns the public key of that many bytes; None: the kind has no such form. Raises ValueError.
        coordinate_size: Bytes of one of the two integers of a signature (RFC 7518 §3.4); 0: signatures are opaque.
        sized: Whether `rsa_bits` chooses the size of a new key.
        secret: Whether the key is a secret without a public half.
        representative: Returns the message representative that a KMS can sign in place of the message (the mu of ML-DSA, FIPS 204
            §6.2); None: the kind has none.
        available: Tells whether this installation can verify signatures of the kind. OpenSSL before 3.5 has no ML-DSA.
    """

    kty: str
    name: str
    fits: Callable[[PublicKey | None], bool]
    members: Callable[[Any], Members]
    verifier: Callable[[HashAlgorithm | None, AsymmetricPadding | None], Verifier]
    signature_size: Callable[[Any], int] | None = None
    problem: Callable[[Any], str | None] = lambda _key: None
    public_size: int = 0
    from_point: Callable[[bytes], PublicKey] | None = None
    coordinate_size: int = 0
    sized: bool = False
    secret: bool = False
    representative: Callable[[Any, bytes], bytes] | None = None
    available: Callable[[], bool] = lambda: True


def _uint(value: int, size: int | None = None) -> str:
    """Return the Base64urlUInt of RFC 7518 §2, or, with a size, the full-width octets of §6.2.1.2."""
    return base64url.encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def _rsa_members(key: rsa.RSAPublicKey) -> Members:
    numbers = key.public_numbers()
    return (("e", _uint(numbers.e)), ("kty", "RSA"), ("n", _uint(numbers.n)))


def _rsa_verifier(hash_: HashAlgorithm | None, padding: AsymmetricPadding | None) -> Verifier:
    if hash_ is None or padding is None:
        raise ValueError("an RSA algorithm needs a hash and a padding")

    def verify(key: rsa.RSAPublicKey, signature: bytes, message: bytes) -> None:
        key.verify(signature, message, padding, hash_)

    return verify


def _rsa_problem(key: rsa.RSAPublicKey) -> str | None:
    if key.public_numbers().e <= _MAX_RSA_EXPONENT:
        return None
    return "an RSA public exponent of more than 31 bits, which verifiers in Go refuse"


def _ec(name: str, curve: type[ec.EllipticCurve], size: int) -> KeyKind:
    """Return a Weierstrass curve, for ECDSA (RFC 7518 §6.2), whose coordinates have `size` bytes."""

    def members(key: ec.EllipticCurvePublicKey) -> Members:
        point = key.public_numbers()
        return (("crv", name), ("kty", "EC"), ("x", _uint(point.x, size)), ("y", _uint(point.y, size)))

    def verifier(hash_: HashAlgorithm | None, _padding: AsymmetricPadding | None) -> Verifier:
        if hash_ is None:
            raise ValueError("ECDSA needs a hash")
        ecdsa = ec.ECDSA(hash_)

        def verify(key: ec.EllipticCurvePublicKey, signature: bytes, message: bytes) -> None:
            r, s = int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big")
            key.verify(encode_dss_signature(r, s), message, ecdsa)

        return verify

    return KeyKind(
        kty="EC",
        name=name,
        fits=lambda key: isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, curve),
        members=members,
        signature_size=lambda _key: 2 * size,
        verifier=verifier,
        public_size=1 + 2 * size,
        from_point=lambda point: ec.EllipticCurvePublicKey.from_encoded_point(curve(), point),
        coordinate_size=size,
    )


def _okp(
    name: str, public_type: type[ed25519.Ed25519PublicKey | ed448.Ed448PublicKey], public_size: int, signature_size: int
) -> KeyKind:
    """Return an Edwards curve, for EdDSA (RFC 8037 §2), which signs the message itself."""

    def members(key: ed25519.Ed25519PublicKey | ed448.Ed448PublicKey) -> Members:
        raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
        return (("crv", name), ("kty", "OKP"), ("x", base64url.encode(raw)))

    return KeyKind(
        kty="OKP",
        name=name,
        fits=lambda key: isinstance(key, public_type),
        members=members,
        signature_size=lambda _key: signature_size,
        verifier=lambda _hash, _padding: lambda key, signature, message: key.verify(signature, message),
        public_size=public_size,
        from_point=public_type.from_public_bytes,
    )


def _ml_dsa_available() -> bool:
    # No public function tells this, so try it. Any bytes of the right number are a public key (FIPS 204 §7.2).
    try:
        mldsa.MLDSA44PublicKey.from_public_bytes(bytes(1312))
    except UnsupportedAlgorithm:
        return False
    return True


def _mu(key: _MlDsaKey, message: bytes) -> bytes:
    hasher = mldsa.MLDSAMuHasher(key)
    hasher.update(message)
    return hasher.finalize()


def _ml_dsa(name: str, public_type: type[_MlDsaKey], public_size: int, signature_size: int) -> KeyKind:
    """Return a parameter set of ML-DSA (RFC 9964): pure, never HashML-DSA, with the empty context that is the library's default."""

    def members(key: _MlDsaKey) -> Members:
        return (("alg", name), ("kty", "AKP"), ("pub", base64url.encode(key.public_bytes_raw())))

    return KeyKind(
        kty="AKP",
        name=name,
        fits=lambda key: isinstance(key, public_type),
        members=members,
        signature_size=lambda _key: signature_size,
        verifier=lambda _hash, _padding: lambda key, signature, message: key.verify(signature, message),
        public_size=public_size,
        from_point=public_type.from_public_bytes,
        representative=_mu,
        available=_ml_dsa_available,
    )


def _no_members(_key: None) -> Members:
    raise ValueError("a secret key has no public JWK")


def _verify_nothing(_key: object, _signature: bytes, _message: bytes) -> None:
    raise InvalidSignature  # Only the KMS has the secret.


RSA: Final = KeyKind(
    kty="RSA",
    name="RSA",
    fits=lambda key: isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS,
    members=_rsa_members,
    signature_size=lambda key: (key.key_size + 7) // 8,
    verifier=_rsa_verifier,
    problem=_rsa_problem,
    sized=True,
)
P256: Final = _ec("P-256", ec.SECP256R1, 32)
P384: Final = _ec("P-384", ec.SECP384R1, 48)
P521: Final = _ec("P-521", ec.SECP521R1, 66)
SECP256K1: Final = _ec("secp256k1", ec.SECP256K1, 32)
ED25519: Final = _okp("Ed25519", ed25519.Ed25519PublicKey, 32, 64)
ML_DSA_44: Final = _ml_dsa("ML-DSA-44", mldsa.MLDSA44PublicKey, 1312, 2420)
ML_DSA_65: Final = _ml_dsa("ML-DSA-65", mldsa.MLDSA65PublicKey, 1952, 3309)
ML_DSA_87: Final = _ml_dsa("ML-DSA-87", mldsa.MLDSA87PublicKey, 2592, 4627)
SECRET: Final = KeyKind(
    kty="oct",
    name="oct",
    fits=lambda key: key is None,
    members=_no_members,
    verifier=lambda _hash, _padding: _verify_nothing,
    secret=True,
)
