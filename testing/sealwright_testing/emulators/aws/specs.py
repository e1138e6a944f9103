"""The kinds of keys of AWS KMS, and what each can do.

AWS KMS Developer Guide, "Key spec reference". SM2 keys (China only) are not emulated.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives import hashes

if TYPE_CHECKING:
    from collections.abc import Mapping


class KeySpec(StrEnum):
    """The type and size of a key's material."""

    RSA_2048 = "RSA_2048"
    RSA_3072 = "RSA_3072"
    RSA_4096 = "RSA_4096"
    ECC_NIST_P256 = "ECC_NIST_P256"
    ECC_NIST_P384 = "ECC_NIST_P384"
    ECC_NIST_P521 = "ECC_NIST_P521"
    ECC_SECG_P256K1 = "ECC_SECG_P256K1"
    ECC_NIST_EDWARDS25519 = "ECC_NIST_EDWARDS25519"
    ML_DSA_44 = "ML_DSA_44"
    ML_DSA_65 = "ML_DSA_65"
    ML_DSA_87 = "ML_DSA_87"
    HMAC_224 = "HMAC_224"
    HMAC_256 = "HMAC_256"
    HMAC_384 = "HMAC_384"
    HMAC_512 = "HMAC_512"
    SYMMETRIC_DEFAULT = "SYMMETRIC_DEFAULT"

    @property
    def is_rsa(self) -> bool:
        """Whether it is an RSA key pair."""
        return self.startswith("RSA_")

    @property
    def is_hmac(self) -> bool:
        """Whether it is an HMAC key."""
        return self.startswith("HMAC_")

    @property
    def is_ml_dsa(self) -> bool:
        """Whether it is an ML-DSA key pair."""
        return self.startswith("ML_DSA_")

    @property
    def is_asymmetric(self) -> bool:
        """Whether it is a key pair, which has a public key."""
        return self.is_rsa or self.is_ml_dsa or self.startswith("ECC_")

    @property
    def family(self) -> str:
        """The type of a key in the terms of UpdateAlias: `asymmetric`, `HMAC` or `symmetric`."""
        if self.is_asymmetric:
            return "asymmetric"
        return "HMAC" if self.is_hmac else "symmetric"


class KeyUsage(StrEnum):
    """The usage of a key, which never changes."""

    SIGN_VERIFY = "SIGN_VERIFY"
    ENCRYPT_DECRYPT = "ENCRYPT_DECRYPT"
    GENERATE_VERIFY_MAC = "GENERATE_VERIFY_MAC"
    KEY_AGREEMENT = "KEY_AGREEMENT"


class KeyState(StrEnum):
    """The state of a key. AWS KMS Developer Guide, "Key states of AWS KMS keys"."""

    CREATING = "Creating"
    ENABLED = "Enabled"
    DISABLED = "Disabled"
    PENDING_DELETION = "PendingDeletion"
    UNAVAILABLE = "Unavailable"


class MessageType(StrEnum):
    """The type of the Message of Sign and Verify."""

    RAW = "RAW"
    DIGEST = "DIGEST"
    EXTERNAL_MU = "EXTERNAL_MU"


class SigningAlgorithm(StrEnum):
    """The algorithm of Sign and Verify."""

    RSASSA_PSS_SHA_256 = "RSASSA_PSS_SHA_256"
    RSASSA_PSS_SHA_384 = "RSASSA_PSS_SHA_384"
    RSASSA_PSS_SHA_512 = "RSASSA_PSS_SHA_512"
    RSASSA_PKCS1_V1_5_SHA_256 = "RSASSA_PKCS1_V1_5_SHA_256"
    RSASSA_PKCS1_V1_5_SHA_384 = "RSASSA_PKCS1_V1_5_SHA_384"
    RSASSA_PKCS1_V1_5_SHA_512 = "RSASSA_PKCS1_V1_5_SHA_512"
    ECDSA_SHA_256 = "ECDSA_SHA_256"
    ECDSA_SHA_384 = "ECDSA_SHA_384"
    ECDSA_SHA_512 = "ECDSA_SHA_512"
    SM2DSA = "SM2DSA"
    ML_DSA_SHAKE_256 = "ML_DSA_SHAKE_256"
    ED25519_SHA_512 = "ED25519_SHA_512"
    ED25519_PH_SHA_512 = "ED25519_PH_SHA_512"

    @property
    def hash(self) -> hashes.HashAlgorithm:
        """The hash at the end of its name, with which a DIGEST must have been made."""
        return HASHES[self.rpartition("_")[2]]


class MacAlgorithm(StrEnum):
    """The algorithm of GenerateMac and VerifyMac."""

    HMAC_SHA_224 = "HMAC_SHA_224"
    HMAC_SHA_256 = "HMAC_SHA_256"
    HMAC_SHA_384 = "HMAC_SHA_384"
    HMAC_SHA_512 = "HMAC_SHA_512"

    @property
    def hash(self) -> hashes.HashAlgorithm:
        """The hash at the end of its name."""
        return HASHES[self.rpartition("_")[2]]


HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = MappingProxyType(
    {"224": hashes.SHA224(), "256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()},
)

_RSA_SIGNING: Final = tuple(a for a in SigningAlgorithm if a.startswith("RSASSA_"))

SIGNING_ALGORITHMS: Final[Mapping[KeySpec, tuple[SigningAlgorithm, ...]]] = MappingProxyType(
    {
        KeySpec.RSA_2048: _RSA_SIGNING,
        KeySpec.RSA_3072: _RSA_SIGNING,
        KeySpec.RSA_4096: _RSA_SIGNING,
        KeySpec.ECC_NIST_P256: (SigningAlgorithm.ECDSA_SHA_256,),
        KeySpec.ECC_NIST_P384: (SigningAlgorithm.ECDSA_SHA_384,),
        KeySpec.ECC_NIST_P521: (SigningAlgorithm.ECDSA_SHA_512,),
        KeySpec.ECC_SECG_P256K1: (SigningAlgorithm.ECDSA_SHA_256,),
        KeySpec.ECC_NIST_EDWARDS25519: (SigningAlgorithm.ED25519_SHA_512, SigningAlgorithm.ED25519_PH_SHA_512),
        KeySpec.ML_DSA_44: (SigningAlgorithm.ML_DSA_SHAKE_256,),
        KeySpec.ML_DSA_65: (SigningAlgorithm.ML_DSA_SHAKE_256,),
        KeySpec.ML_DSA_87: (SigningAlgorithm.ML_DSA_SHAKE_256,),
    },
)
"""Which algorithms fit a key whose usage is SIGN_VERIFY."""

MU_BYTES: Final = 64
"""Length of the Message of EXTERNAL_MU: mu of FIPS 204, section 6.2."""

_MESSAGE_TYPES: Final[Mapping[SigningAlgorithm, tuple[MessageType, ...]]] = MappingProxyType(
    {
        SigningAlgorithm.ED25519_SHA_512: (MessageType.RAW,),
        SigningAlgorithm.ED25519_PH_SHA_512: (MessageType.DIGEST,),
        SigningAlgorithm.ML_DSA_SHAKE_256: (MessageType.RAW, MessageType.EXTERNAL_MU),
    },
)


def message_types(algorithm: SigningAlgorithm) -> tuple[MessageType, ...]:
    """Return the types of message that an algorithm signs. AWS KMS API Reference, Sign, `MessageType`."""
    return _MESSAGE_TYPES.get(algorithm, (MessageType.RAW, MessageType.DIGEST))


_NIST_CURVES: Final = (KeySpec.ECC_NIST_P256, KeySpec.ECC_NIST_P384, KeySpec.ECC_NIST_P521)


def usages(spec: KeySpec) -> tuple[KeyUsage, ...]:
    """Return the usages that a key of this spec may have. AWS KMS API Reference, CreateKey, `KeyUsage`."""
    if spec.is_hmac:
        return (KeyUsage.GENERATE_VERIFY_MAC,)
    if spec.is_rsa:
        return (KeyUsage.ENCRYPT_DECRYPT, KeyUsage.SIGN_VERIFY)
    if spec in _NIST_CURVES:
        return (KeyUsage.SIGN_VERIFY, KeyUsage.KEY_AGREEMENT)
    if spec.is_asymmetric:
        return (KeyUsage.SIGN_VERIFY,)
    return (KeyUsage.ENCRYPT_DECRYPT,)


def algorithms(spec: KeySpec, usage: KeyUsage) -> dict[str, list[str]]:
    """Return the lists of algorithms in KeyMetadata and GetPublicKey, under the names that AWS uses."""
    match usage:
        case KeyUsage.SIGN_VERIFY:
            return {"SigningAlgorithms": [str(a) for a in SIGNING_ALGORITHMS[spec]]}
        case KeyUsage.GENERATE_VERIFY_MAC:
            return {"MacAlgorithms": [mac_algorithm(spec)]}
        case KeyUsage.KEY_AGREEMENT:
            return {"KeyAgreementAlgorithms": ["ECDH"]}
        case KeyUsage.ENCRYPT_DECRYPT if spec.is_rsa:
            return {"EncryptionAlgorithms": ["RSAES_OAEP_SHA_1", "RSAES_OAEP_SHA_256"]}
        case KeyUsage.ENCRYPT_DECRYPT:
            return {"EncryptionAlgorithms": ["SYMMETRIC_DEFAULT"]}


def mac_algorithm(spec: KeySpec) -> MacAlgorithm:
    """Return the one algorithm of an HMAC key."""
    return MacAlgorithm(spec.replace("HMAC_", "HMAC_SHA_"))
