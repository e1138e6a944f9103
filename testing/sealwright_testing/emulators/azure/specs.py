"""Names that Key Vault gives to types of keys, curves and algorithms (REST reference, JsonWebKeyType and its neighbours)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec


class KeyType(StrEnum):
    """The `kty` of a key. Those with `-HSM` are kept in an HSM: a Premium vault, or a Managed HSM."""

    RSA = "RSA"
    RSA_HSM = "RSA-HSM"
    EC = "EC"
    EC_HSM = "EC-HSM"
    OCT = "oct"
    OCT_HSM = "oct-HSM"

    @property
    def family(self) -> str:
        """The type without `-HSM`."""
        return self.value.removesuffix("-HSM")

    @property
    def hsm(self) -> bool:
        """Whether the key is kept in an HSM."""
        return self.value.endswith("-HSM")


CURVES: Final[Mapping[str, type[ec.EllipticCurve]]] = MappingProxyType(
    {"P-256": ec.SECP256R1, "P-384": ec.SECP384R1, "P-521": ec.SECP521R1, "P-256K": ec.SECP256K1}
)
"""By the `crv` of a key. `P-256K` is Azure's name of secp256k1."""

RSA_SIZES: Final = (2048, 3072, 4096)
OCT_SIZES: Final = (128, 192, 256, 384, 512)
DEFAULT_RSA_SIZE: Final = 2048
DEFAULT_OCT_SIZE: Final = 256
DEFAULT_CURVE: Final = "P-256"

HASHES: Final = MappingProxyType({"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()})
"""By the digits in the name of an algorithm."""

EC_ALGORITHMS: Final = MappingProxyType({"ES256": "P-256", "ES384": "P-384", "ES512": "P-521", "ES256K": "P-256K"})
"""The curve of each algorithm on elliptic curves."""
RSA_ALGORITHMS: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
MAC_ALGORITHMS: Final = frozenset({"HS256", "HS384", "HS512"})
ALGORITHMS: Final = RSA_ALGORITHMS | MAC_ALGORITHMS | EC_ALGORITHMS.keys()

OPERATIONS: Final = frozenset(
    {"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey", "import", "export", "deriveKey"}
)
DEFAULT_OPERATIONS: Final = MappingProxyType(
    {
        "RSA": ("encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"),
        "EC": ("sign", "verify"),
        "oct": ("encrypt", "decrypt", "wrapKey", "unwrapKey"),
    }
)
"""The `key_ops` of a key that is created without any, by family."""


def hash_of(algorithm: str) -> hashes.HashAlgorithm:
    """Return the hash of a signature algorithm."""
    return HASHES[algorithm[2:5]]
