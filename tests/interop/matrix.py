"""Which verifier takes which algorithm, as data: what others' libraries and gateways were measured to do.

A column stands for the algorithms of its group. `Y` verifies a token by a served set, `-` refuses it, always.
RS: RS256 to RS512 with 2048 bits, RS256 with 3072; PS likewise; ES: ES256, ES384, ES512; ML: ML-DSA-65.
`mixed` says what a set of several kinds of keys does: `ok`: nothing; `order`: only tokens verify whose key has no key of another
kind before it, since the library ignores the kid; `odd breaks`: none verifies once the set has an Ed25519 key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LIBRARIES = """
| verifier                  | typ    | RS | PS | ES | ES256K | EdDSA | Ed25519 | ML | mixed      |
|---------------------------|--------|----|----|----|--------|-------|---------|----|------------|
| pyjwt                     | JWT    | Y  | Y  | Y  | Y      | Y     | -       | -  | ok         |
| joserfc                   | JWT    | Y  | Y  | Y  | Y      | Y     | Y       | -  | ok         |
| jwcrypto                  | JWT    | Y  | Y  | Y  | Y      | Y     | Y       | Y  | ok         |
| authlib                   | JWT    | Y  | Y  | Y  | Y      | Y     | -       | -  | ok         |
| python-jose               | JWT    | Y  | -  | Y  | -      | -     | -       | -  | ok         |
| python-jose-whole-set     | JWT    | Y  | -  | Y  | -      | -     | -       | -  | order      |
| google-auth               | JWT    | Y  | Y  | Y  | Y      | Y     | -       | -  | ok         |
| jose                      | JWT    | Y  | Y  | Y  | -      | Y     | Y       | -  | ok         |
| jose, node 24             | JWT    | Y  | Y  | Y  | -      | Y     | Y       | Y  | ok         |
| oauth4webapi              | at+jwt | Y  | Y  | Y  | -      | Y     | Y       | -  | ok         |
| express-oauth2-jwt-bearer | at+jwt | Y  | Y  | Y  | Y      | Y     | -       | -  | ok         |
| jsonwebtoken              | JWT    | Y  | Y  | Y  | -      | -     | -       | -  | ok         |
| fast-jwt                  | JWT    | Y  | Y  | Y  | -      | -     | -       | -  | ok         |
| aws-jwt-verify            | JWT    | Y  | -  | Y  | -      | Y     | -       | -  | ok         |
| hono                      | JWT    | Y  | Y  | Y  | -      | Y     | -       | -  | ok         |
| node-jose                 | JWT    | Y  | Y  | Y  | -      | -     | -       | -  | odd breaks |
| jsrsasign                 | JWT    | Y  | Y  | Y  | -      | -     | -       | -  | ok         |
"""

GATEWAYS = """
| verifier                  | typ    | RS | PS | ES | ES256K | EdDSA | Ed25519 | ML | mixed      |
|---------------------------|--------|----|----|----|--------|-------|---------|----|------------|
| envoy                     | JWT    | Y  | Y  | Y  | -      | Y     | -       | -  | ok         |
| nginx                     | JWT    | Y  | Y  | Y  | Y      | Y     | -       | -  | ok         |
| apache                    | JWT    | Y  | Y  | Y  | -      | -     | -       | -  | ok         |
| haproxy                   | JWT    | Y  | Y  | Y  | -      | -     | -       | -  | ok         |
"""

COMMON, RSA_ONLY, RSA_3072, EC_ONLY, ODD = "common", "rsa", "rsa-3072", "ec", "odd"
SETS: Mapping[str, tuple[str, ...]] = {
    COMMON: ("RS256", "PS256", "ES256", "ES384", "ES512"),
    RSA_ONLY: ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    RSA_3072: ("RS256", "PS256"),
    EC_ONLY: ("ES256", "ES384", "ES512"),
    "es256k": ("ES256K",),
    "eddsa": ("EdDSA",),
    "ed25519": ("Ed25519",),
    "ml-dsa": ("ML-DSA-65",),
    ODD: ("RS256", "ES256", "ES256K", "EdDSA"),
}
"""The algorithms of each issuer, so of each JWK Set."""


SIGNATURE_ONLY = frozenset({"node-jose"})
"""Verifiers that leave the claims to their users: they take expired tokens."""


REFUSED_TYPE: Mapping[str, str] = {
    "hono": "at+jwt",
    "oauth4webapi": "JWT",
    "express-oauth2-jwt-bearer": "JWT",
}
"""Libraries that do not take every `typ`, and which they refuse (express-oauth2-jwt-bearer: where it is strict)."""

UNSUPPORTED: Mapping[str, str] = {
    "pyjwt": "did not contain any usable keys",
    "joserfc": "No keys to import",
    "authlib": "unsupported_algorithm|'AKP'",
    "python-jose": "Unable to find an algorithm for key",
    "python-jose-whole-set": "Unable to find an algorithm for key|Incorrect key type|'secp256k1'",
    "google-auth": "did not contain any usable keys",
    "jose": 'Unsupported "alg" value|Unrecognized algorithm name',
    "jose, node 24": 'Unsupported "alg" value',
    "oauth4webapi": 'unexpected JWT "alg"|Unrecognized algorithm name',
    "express-oauth2-jwt-bearer": 'is not supported either by JOSE or your javascript runtime|Unsupported "alg" value',
    "jsonwebtoken": "did not contain any signing keys|Unable to find a signing key|Unknown key type",
    "fast-jwt": "Cannot fetch key",
    "aws-jwt-verify": "algorithm not allowed|kty not allowed",
    "hono": "jwt header is invalid",
    "node-jose": "no key found|unsupported key type",
    "jsrsasign": "unsupported alg name|indexOf is not a function",
}
"""What a library says of an algorithm or a set that it cannot read, so that a refusal for another reason is none."""


@dataclass(frozen=True, slots=True)
class Row:
    """A verifier."""

    typ: str
    columns: Mapping[str, bool]
    mixed: str

    def verifies(self, algorithm: str) -> bool:
        """Tell whether it must verify a token of a set of its own kind."""
        return self.columns[algorithm if algorithm in self.columns else algorithm[:2]]

    def reads(self, keys: Sequence[Mapping[str, str]], kid: str) -> bool:
        """Tell whether the keys beside it in a set let it come to a key."""
        if self.mixed == "order":
            kinds = [_kind(key) for key in keys]
            return len(set(kinds[: [key["kid"] for key in keys].index(kid) + 1])) == 1
        return self.mixed == "ok" or all(key["kty"] != "OKP" for key in keys)


def _kind(key: Mapping[str, str]) -> str:
    return "secp256k1" if key.get("crv") == "secp256k1" else key["kty"]


def rows(table: str) -> dict[str, Row]:
    """Parse a table."""
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines())
    parsed = {}
    for name, typ, *cells, mixed in body:
        assert set(cells) <= {"Y", "-"}, name
        assert mixed in {"ok", "order", "odd breaks"}, name
        parsed[name] = Row(typ, {c: cell == "Y" for c, cell in zip(head[2:-1], cells, strict=True)}, mixed)
    return parsed
