"""Libraries that drop a whole JWK Set because of one key in it, although RFC 7517 §5 asks them to ignore such a key.

Measured on 2026-11-25 to 2026-11-28 with sets of this service: a good RSA key and a good P-256 key, and one more key before or
after them. docs/verifiers.md has the same table for people.
"""

from __future__ import annotations

from typing import Final

Readers = tuple[str, ...]
"""Names of libraries, with the versions that were tried."""

_PYTHON_JOSE: Final = "python-jose 3.5.0"
_NODE_JOSE: Final = "node-jose 2.2.0"
_RUST: Final = "Rust jsonwebtoken 9.3.1"

EVERYBODY_READS: Final[Readers] = ()
"""RSA, P-256 and P-384: no library that was tried drops a set because of such a key."""

NOT_P521: Final[Readers] = (_RUST,)

NOT_SECP256K1: Final[Readers] = (
    "go-jose 4.1.9",
    "go-jose.v2 2.6.0",
    "jwx 3.4.0 (unless built with jwx_es256k)",
    _RUST,
    _PYTHON_JOSE,
    "PyJWT 2.0.1",
)

NOT_EDDSA: Final[Readers] = (_NODE_JOSE, _PYTHON_JOSE, "PyJWT 2.0.1")

NOT_ED25519: Final[Readers] = (_NODE_JOSE, _PYTHON_JOSE, "PyJWT before 2.5", _RUST)
"""The same keys under the name of RFC 9864."""

NOT_AKP: Final[Readers] = (
    "authlib.jose 1.9.10",
    _NODE_JOSE,
    _PYTHON_JOSE,
    "jwcrypto 1.5.6",
    "PyJWT before 2.5",
    # Reported by others: go-jose/go-jose#276, lestrrat-go/jwx#2264, vapor/jwt-kit#246, FusionAuth/fusionauth-jwt#80, JOSESwift#494.
    "go-jose",
    "jwx 3",
    "jwt-kit",
    "fusionauth-jwt",
    "JOSESwift",
)
