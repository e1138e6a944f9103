"""JWS algorithms as Google Cloud KMS names them (Cloud KMS, "Key purposes and algorithms").

A version of a key has one algorithm, which fixes the padding, the size and the hash. So the algorithm of a token must come from
the version, and there are no RS384, PS384 and ES512.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import mldsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from sealwright.provider import ALGORITHMS, Algorithm, Protection, ProviderUnavailableError, ProviderUnsupportedError

MAX_MESSAGE_BYTES: Final = 65536
"""AsymmetricSign and MacSign take 64 KiB of data. A digest has no such limit."""


class KmsAlgorithm(NamedTuple):
    """A JWS algorithm at Google Cloud KMS.

    Attributes:
        versions: CryptoKeyVersionAlgorithm, by size of the modulus; 0: the algorithm has no sizes.
        hsm_only: Whether only HSM keys can have it.
    """

    versions: Mapping[int, str]
    hsm_only: bool = False


def _rsa(name: str) -> KmsAlgorithm:
    """Return an RSA algorithm with SHA-256, whose keys have three sizes."""
    return KmsAlgorithm({bits: f"RSA_SIGN_{name}_{bits}_SHA256" for bits in (2048, 3072, 4096)})


_ED25519: Final = KmsAlgorithm({0: "EC_SIGN_ED25519"})

KMS_ALGORITHMS: Final = MappingProxyType(
    {
        "RS256": _rsa("PKCS1"),
        "RS512": KmsAlgorithm({4096: "RSA_SIGN_PKCS1_4096_SHA512"}),
        # Cloud KMS signs PSS with a salt as long as the hash, as RFC 7518 §3.5 wants it.
        "PS256": _rsa("PSS"),
        "PS512": KmsAlgorithm({4096: "RSA_SIGN_PSS_4096_SHA512"}),
        "ES256": KmsAlgorithm({0: "EC_SIGN_P256_SHA256"}),
        "ES384": KmsAlgorithm({0: "EC_SIGN_P384_SHA384"}),
        "ES256K": KmsAlgorithm({0: "EC_SIGN_SECP256K1_SHA256"}, hsm_only=True),
        "EdDSA": _ED25519,
        "Ed25519": _ED25519,
        "HS256": KmsAlgorithm({0: "HMAC_SHA256"}),
        "HS384": KmsAlgorithm({0: "HMAC_SHA384"}),
        "HS512": KmsAlgorithm({0: "HMAC_SHA512"}),
        "ML-DSA-44": KmsAlgorithm({0: "PQ_SIGN_ML_DSA_44"}),
        "ML-DSA-65": KmsAlgorithm({0: "PQ_SIGN_ML_DSA_65"}),
        "ML-DSA-87": KmsAlgorithm({0: "PQ_SIGN_ML_DSA_87"}),
    },
)
"""By JWS algorithm. RSA_SIGN_RAW_PKCS1_* signs whatever it gets, and *_EXTERNAL_MU a hash: neither is used."""

_JWS_NAMES: Final = {
    version: frozenset(n for n, a in KMS_ALGORITHMS.items() if version in a.versions.values() and n in ALGORITHMS)
    for kms in KMS_ALGORITHMS.values()
    for version in kms.versions.values()
}
_ML_DSA_KEYS: Final[Mapping[str, Any]] = {
    "PQ_SIGN_ML_DSA_44": mldsa.MLDSA44PublicKey,
    "PQ_SIGN_ML_DSA_65": mldsa.MLDSA65PublicKey,
    "PQ_SIGN_ML_DSA_87": mldsa.MLDSA87PublicKey,
}


def jws_algorithms(version_algorithm: str) -> frozenset[str]:
    """Return the JWS algorithms that a version of that CryptoKeyVersionAlgorithm signs with; none: it is not one for JWS."""
    return _JWS_NAMES.get(version_algorithm, frozenset())


def is_secret(version_algorithm: str) -> bool:
    """Tell whether versions of that algorithm have no public half."""
    return version_algorithm.startswith("HMAC_")


def is_post_quantum(version_algorithm: str) -> bool:
    """Tell whether GetPublicKey needs a `public_key_format` for versions of that algorithm."""
    return version_algorithm in _ML_DSA_KEYS


def version_algorithm(algorithm: Algorithm, rsa_bits: int) -> str:
    """Return the CryptoKeyVersionAlgorithm of a key to create.

    Args:
        algorithm: The JWS algorithm.
        rsa_bits: Size of the modulus, for RSA.

    Raises:
        ProviderUnsupportedError: Cloud KMS does not have the algorithm, or not in that size.
    """
    kms = KMS_ALGORITHMS.get(algorithm.name)
    if kms is None:
        raise ProviderUnsupportedError(f"Google Cloud KMS does not create keys for {algorithm.name}")
    found = kms.versions.get(rsa_bits if algorithm.takes_rsa_bits else 0)
    if found is None:
        sizes = ", ".join(str(bits) for bits in sorted(kms.versions))
        raise ProviderUnsupportedError(
            f"Google Cloud KMS has keys for {algorithm.name} with {sizes} bits, not with {rsa_bits}: set rsa_bits"
        )
    return found


def protection_level(algorithm: Algorithm, protection: Protection | None) -> str:
    """Return the ProtectionLevel of a key to create: HSM unless the series asks for software.

    Raises:
        ProviderUnsupportedError: Cloud KMS cannot keep such a key there, or keys in an external key manager are asked for.
    """
    if protection not in {None, Protection.SOFTWARE, Protection.HSM}:
        raise ProviderUnsupportedError(
            f"Google Cloud KMS creates keys in software or in HSMs here; the series asks for {protection}"
        )
    if protection is Protection.SOFTWARE and KMS_ALGORITHMS[algorithm.name].hsm_only:
        raise ProviderUnsupportedError(f"Google Cloud KMS has keys for {algorithm.name} only in HSMs")
    return "SOFTWARE" if protection is Protection.SOFTWARE else "HSM"


def der_from_pem(pem: str) -> bytes:
    """Return the SubjectPublicKeyInfo of a PEM public key.

    Raises:
        ProviderUnavailableError: It cannot be parsed.
    """
    try:
        key = load_pem_public_key(pem.encode())
    except ValueError:
        raise ProviderUnavailableError("Google Cloud KMS returned a public key that cannot be parsed") from None
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


def der_from_raw(version_algorithm: str, raw: bytes) -> bytes:
    """Return the SubjectPublicKeyInfo of a post-quantum public key in the form NIST_PQC: the octets of FIPS 204.

    Raises:
        ProviderUnavailableError: They have the wrong length.
        ProviderUnsupportedError: The OpenSSL of this installation has no ML-DSA.
    """
    try:
        key = _ML_DSA_KEYS[version_algorithm].from_public_bytes(raw)
    except UnsupportedAlgorithm:
        raise ProviderUnsupportedError(
            "this installation cannot verify ML-DSA: it needs OpenSSL 3.5 or newer"
        ) from None
    except ValueError:
        raise ProviderUnavailableError("Google Cloud KMS returned a public key that cannot be parsed") from None
    return bytes(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
