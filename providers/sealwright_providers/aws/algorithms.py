"""JWS algorithms in the words of AWS KMS (API Reference, Sign and CreateKey)."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from sealwright.jose.algorithms import Algorithm, Scheme

MAX_MESSAGE_BYTES: Final = 4096
"""Sign: a RAW message has 1 to 4096 bytes; a longer one must be sent as a digest."""

SIGNING_ALGORITHMS: Final = MappingProxyType(
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
    },
)

_EC_SPECS: Final = {"ES256": "ECC_NIST_P256", "ES384": "ECC_NIST_P384", "ES512": "ECC_NIST_P521"}


def key_spec(algorithm: Algorithm, rsa_bits: int) -> str:
    """Return the KeySpec of a key for an algorithm."""
    if algorithm.scheme in {Scheme.RSA_PKCS1, Scheme.RSA_PSS}:
        return f"RSA_{rsa_bits}"
    return _EC_SPECS[algorithm.name]


def jws_algorithms(signing_algorithms: list[str], spec: str) -> frozenset[str]:
    """Return the JWS algorithms that a key can sign with, given its SigningAlgorithms and KeySpec.

    ECDSA_SHA_256 is ES256 on P-256 alone: on secp256k1 it is ES256K (RFC 8812 §3.2).
    """
    return frozenset(
        name
        for name, kms_name in SIGNING_ALGORITHMS.items()
        if kms_name in signing_algorithms and _EC_SPECS.get(name, spec) == spec
    )
