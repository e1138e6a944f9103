"""JWS algorithms, curves and types of keys as Key Vault names them (REST reference, JsonWebKeySignatureAlgorithm)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from sealwright.provider import ALGORITHMS, Algorithm

CURVES: Final[Mapping[str, str]] = MappingProxyType(
    {"P-256": "P-256", "P-384": "P-384", "P-521": "P-521", "P-256K": "secp256k1"}
)
"""The JOSE name of each curve, by Azure's. `P-256K` is older than RFC 8812, which names it secp256k1."""

_NAMES: Final = MappingProxyType({ours: theirs for theirs, ours in CURVES.items()})

HMAC_BITS: Final[Mapping[str, int]] = MappingProxyType({"HS256": 256, "HS384": 384, "HS512": 512})
"""The size of a new key for each HMAC algorithm: that of the hash (RFC 7518 §3.2)."""

AZURE_ALGORITHMS: Final = frozenset(
    a.name for a in ALGORITHMS.values() if a.symmetric or a.takes_rsa_bits or a.kind.name in _NAMES
)
"""The algorithms that Azure has. Their names there are those of JWS."""


def key_parameters(algorithm: Algorithm, rsa_bits: int, *, hsm: bool) -> dict[str, object]:
    """Return the parameters of CreateKey for a key that signs with an algorithm."""
    suffix = "-HSM" if hsm else ""
    parameters: dict[str, object] = {"kty": algorithm.kind.kty + suffix, "key_ops": ["sign", "verify"]}
    if algorithm.symmetric:
        return parameters | {"key_size": HMAC_BITS[algorithm.name]}
    if algorithm.takes_rsa_bits:
        return parameters | {"key_size": rsa_bits}
    return parameters | {"crv": _NAMES[algorithm.kind.name]}


def algorithms_of(kind: str) -> frozenset[str]:
    """Return the algorithms that a kind of key can sign with.

    Args:
        kind: The name of a `KeyKind`: `RSA`, `oct`, or a JOSE name of a curve.
    """
    return frozenset(name for name in AZURE_ALGORITHMS if ALGORITHMS[name].kind.name == kind)
