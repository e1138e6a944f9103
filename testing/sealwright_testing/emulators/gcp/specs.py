"""Algorithms of key versions, and what can be done with their key material (Cloud KMS, "Key purposes and algorithms")."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import NoDigestInfo, Prehashed

SIGN: Final = "ASYMMETRIC_SIGN"
MAC: Final = "MAC"
ENCRYPT: Final = "ENCRYPT_DECRYPT"

Signer = Callable[[Any, bytes], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A CryptoKeyVersionAlgorithm.

    Attributes:
        purpose: The CryptoKeyPurpose that its keys must have.
        generate: Makes key material.
        sign: Signs with key material: a digest where there is a `hash`, else data.
        hash: The hash of a `digest`; None: only `data` is accepted.
        hsm_only: Whether only HSM keys can have it.
        post_quantum: Whether GetPublicKey needs a `public_key_format`.
    """

    purpose: str
    generate: Callable[[], Any]
    sign: Signer
    hash: hashes.HashAlgorithm | None = None
    hsm_only: bool = False
    post_quantum: bool = False


def _rsa(bits: int, hash_: hashes.HashAlgorithm | None, padding_: padding.AsymmetricPadding) -> Spec:
    scheme: Any = NoDigestInfo() if hash_ is None else Prehashed(hash_)
    return Spec(
        purpose=SIGN,
        generate=lambda: rsa.generate_private_key(65537, bits),
        sign=lambda key, value: bytes(key.sign(value, padding_, scheme)),
        hash=hash_,
    )


def _pss(hash_: hashes.HashAlgorithm) -> padding.PSS:
    return padding.PSS(padding.MGF1(hash_), hash_.digest_size)


def _ec(curve: ec.EllipticCurve, hash_: hashes.HashAlgorithm, *, hsm_only: bool = False) -> Spec:
    return Spec(
        purpose=SIGN,
        generate=lambda: ec.generate_private_key(curve),
        sign=lambda key, value: bytes(key.sign(value, ec.ECDSA(Prehashed(hash_)))),
        hash=hash_,
        hsm_only=hsm_only,
    )


def _plain(generate: Callable[[], Any], *, post_quantum: bool = False) -> Spec:
    return Spec(
        purpose=SIGN,
        generate=generate,
        sign=lambda key, value: bytes(key.sign(value)),
        post_quantum=post_quantum,
    )


def _hmac(name: str, size: int) -> Spec:
    return Spec(
        purpose=MAC,
        generate=lambda: secrets.token_bytes(size),
        sign=lambda key, value: hmac.digest(key, value, name),
    )


def _no_signature(_key: Any, _value: bytes) -> bytes:
    raise NotImplementedError


_SHA256, _SHA384, _SHA512 = hashes.SHA256(), hashes.SHA384(), hashes.SHA512()
_PKCS1 = padding.PKCS1v15()

SPECS: Final[dict[str, Spec]] = {
    **{f"RSA_SIGN_PKCS1_{bits}_SHA256": _rsa(bits, _SHA256, _PKCS1) for bits in (2048, 3072, 4096)},
    **{f"RSA_SIGN_PSS_{bits}_SHA256": _rsa(bits, _SHA256, _pss(_SHA256)) for bits in (2048, 3072, 4096)},
    **{f"RSA_SIGN_RAW_PKCS1_{bits}": _rsa(bits, None, _PKCS1) for bits in (2048, 3072, 4096)},
    "RSA_SIGN_PKCS1_4096_SHA512": _rsa(4096, _SHA512, _PKCS1),
    "RSA_SIGN_PSS_4096_SHA512": _rsa(4096, _SHA512, _pss(_SHA512)),
    "EC_SIGN_P256_SHA256": _ec(ec.SECP256R1(), _SHA256),
    "EC_SIGN_P384_SHA384": _ec(ec.SECP384R1(), _SHA384),
    "EC_SIGN_SECP256K1_SHA256": _ec(ec.SECP256K1(), _SHA256, hsm_only=True),
    "EC_SIGN_ED25519": _plain(ed25519.Ed25519PrivateKey.generate),
    "PQ_SIGN_ML_DSA_44": _plain(mldsa.MLDSA44PrivateKey.generate, post_quantum=True),
    "PQ_SIGN_ML_DSA_65": _plain(mldsa.MLDSA65PrivateKey.generate, post_quantum=True),
    "PQ_SIGN_ML_DSA_87": _plain(mldsa.MLDSA87PrivateKey.generate, post_quantum=True),
    "HMAC_SHA256": _hmac("sha256", 32),
    "HMAC_SHA384": _hmac("sha384", 48),
    "HMAC_SHA512": _hmac("sha512", 64),
    "GOOGLE_SYMMETRIC_ENCRYPTION": Spec(purpose=ENCRYPT, generate=lambda: secrets.token_bytes(32), sign=_no_signature),
}
"""By name. The last one has no operations here: it is for tests that use a key of the wrong purpose."""
