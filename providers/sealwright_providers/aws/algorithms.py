"""JWS algorithms as AWS KMS names them (API Reference, CreateKey, Sign and GenerateMac)."""

from __future__ import annotations

from collections.abc import Collection
from types import MappingProxyType
from typing import Final, NamedTuple

from sealwright.provider import Algorithm

MAX_MESSAGE_BYTES: Final = 4096
"""Sign and GenerateMac take messages of 1 to 4096 bytes. A longer one must be sent as a digest, which RSA and ECDSA allow, or as
a message representative (EXTERNAL_MU), which ML-DSA allows."""


class KmsAlgorithm(NamedTuple):
    """A JWS algorithm at AWS KMS.

    Attributes:
        name: SigningAlgorithm, or for HS* MacAlgorithm.
        spec: KeySpec of its keys; the one of RSA keys contains their size.
    """

    name: str
    spec: str


_RSA: Final = "RSA_{rsa_bits}"

KMS_ALGORITHMS: Final = MappingProxyType(
    {
        "RS256": KmsAlgorithm("RSASSA_PKCS1_V1_5_SHA_256", _RSA),
        "RS384": KmsAlgorithm("RSASSA_PKCS1_V1_5_SHA_384", _RSA),
        "RS512": KmsAlgorithm("RSASSA_PKCS1_V1_5_SHA_512", _RSA),
        "PS256": KmsAlgorithm("RSASSA_PSS_SHA_256", _RSA),
        "PS384": KmsAlgorithm("RSASSA_PSS_SHA_384", _RSA),
        "PS512": KmsAlgorithm("RSASSA_PSS_SHA_512", _RSA),
        "ES256": KmsAlgorithm("ECDSA_SHA_256", "ECC_NIST_P256"),
        "ES384": KmsAlgorithm("ECDSA_SHA_384", "ECC_NIST_P384"),
        "ES512": KmsAlgorithm("ECDSA_SHA_512", "ECC_NIST_P521"),
        "ES256K": KmsAlgorithm("ECDSA_SHA_256", "ECC_SECG_P256K1"),
        # Pure Ed25519 (RFC 8037 §3.1). ED25519_PH_SHA_512 is another signature, which no JWS verifier accepts.
        "EdDSA": KmsAlgorithm("ED25519_SHA_512", "ECC_NIST_EDWARDS25519"),
        "Ed25519": KmsAlgorithm("ED25519_SHA_512", "ECC_NIST_EDWARDS25519"),
        "ML-DSA-44": KmsAlgorithm("ML_DSA_SHAKE_256", "ML_DSA_44"),
        "ML-DSA-65": KmsAlgorithm("ML_DSA_SHAKE_256", "ML_DSA_65"),
        "ML-DSA-87": KmsAlgorithm("ML_DSA_SHAKE_256", "ML_DSA_87"),
        "HS256": KmsAlgorithm("HMAC_SHA_256", "HMAC_256"),
        "HS384": KmsAlgorithm("HMAC_SHA_384", "HMAC_384"),
        "HS512": KmsAlgorithm("HMAC_SHA_512", "HMAC_512"),
    },
)
"""By JWS algorithm. AWS KMS has two more algorithms for signatures: `ED25519_PH_SHA_512` (see above), and `SM2DSA`, which is
offered in China only and is not a JWS algorithm (IANA registry "JSON Web Signature and Encryption Algorithms"). HMAC_SHA_224 is
not one either."""


def key_spec(algorithm: Algorithm, rsa_bits: int) -> str:
    """Return the KeySpec of a key for an algorithm."""
    return KMS_ALGORITHMS[algorithm.name].spec.format(rsa_bits=rsa_bits)


def jws_algorithms(kms_algorithms: Collection[str], spec: str) -> frozenset[str]:
    """Return the JWS algorithms that a key can sign with, given its SigningAlgorithms or MacAlgorithms, and its KeySpec.

    ECDSA_SHA_256 is ES256 only on P-256. On secp256k1 it is ES256K (RFC 8812 §3.2).
    """
    return frozenset(
        name for name, kms in KMS_ALGORITHMS.items() if kms.name in kms_algorithms and kms.spec in {_RSA, spec}
    )
