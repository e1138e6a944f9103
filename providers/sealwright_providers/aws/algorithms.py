"""JWS algorithms in the words of AWS KMS (API Reference, CreateKey, Sign and GenerateMac)."""

from __future__ import annotations

from collections.abc import Collection
from types import MappingProxyType
from typing import Final

from sealwright.jose.algorithms import Algorithm, Scheme

MAX_MESSAGE_BYTES: Final = 4096
"""Sign and GenerateMac: a message has 1 to 4096 bytes; a longer one must be sent as a digest, which RSA and ECDSA alone allow."""

KMS_ALGORITHMS: Final = MappingProxyType(
    {
        "RS256": "RSASSA_PKCS1_V1_5_SHA_256",
        "RS384": "RSASSA_PKCS1_V1_5_SHA_384",
        "RS512": "RSASSA_PKCS1_V1_5_SHA_512",
        "PS256": "RSASSA_PSS_SHA_256",
        "PS384": "RSASSA_PSS_SHA_384",
        "PS512": "RSASSA_PSS_SHA_512",
        "ES256": "ECDSA_SHA_256",
        "ES384": "ECDSA_SHA_384",
        "ES512": "ECDSA_SHA_512",
        "ES256K": "ECDSA_SHA_256",
        # Pure Ed25519 (RFC 8037 §3.1). ED25519_PH_SHA_512 is another signature, which no JWS verifier accepts.
        "EdDSA": "ED25519_SHA_512",
        "Ed25519": "ED25519_SHA_512",
        "HS256": "HMAC_SHA_256",
        "HS384": "HMAC_SHA_384",
        "HS512": "HMAC_SHA_512",
    },
)
"""SigningAlgorithm, or for HS* MacAlgorithm, by JWS algorithm."""

_SPECS: Final = {
    "ES256": "ECC_NIST_P256",
    "ES384": "ECC_NIST_P384",
    "ES512": "ECC_NIST_P521",
    "ES256K": "ECC_SECG_P256K1",
    "EdDSA": "ECC_NIST_EDWARDS25519",
    "Ed25519": "ECC_NIST_EDWARDS25519",
    "HS256": "HMAC_256",
    "HS384": "HMAC_384",
    "HS512": "HMAC_512",
}


def key_spec(algorithm: Algorithm, rsa_bits: int) -> str:
    """Return the KeySpec of a key for an algorithm."""
    if algorithm.scheme in {Scheme.RSA_PKCS1, Scheme.RSA_PSS}:
        return f"RSA_{rsa_bits}"
    return _SPECS[algorithm.name]


def takes_digest(algorithm: Algorithm) -> bool:
    """Tell whether the digest of a message may be sent in its place."""
    return algorithm.scheme in {Scheme.RSA_PKCS1, Scheme.RSA_PSS, Scheme.ECDSA}


def jws_algorithms(kms_algorithms: Collection[str], spec: str) -> frozenset[str]:
    """Return the JWS algorithms that a key can sign with, given its SigningAlgorithms or MacAlgorithms, and its KeySpec.

    ECDSA_SHA_256 is ES256 on P-256 alone: on secp256k1 it is ES256K (RFC 8812 §3.2).
    """
    return frozenset(
        name
        for name, kms_name in KMS_ALGORITHMS.items()
        if kms_name in kms_algorithms and _SPECS.get(name, spec) == spec
    )
