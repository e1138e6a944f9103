"""Which verifier takes which algorithm, as data: what others' libraries and gateways were measured to do.

A column stands for the algorithms of its group. `Y` verifies a token by a served set, `-` refuses it, always.
RS: RS256 to RS512 with 2048 bits, RS256 with 3072; PS likewise; ES: ES256, ES384, ES512.
`odd` is a set that has keys of secp256k1 and Ed25519 beside RSA and EC ones: `ok`, or `breaks`: none of its tokens verify.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

LIBRARIES = """
| verifier                  | typ    | RS | PS | ES | ES256K | EdDSA | Ed25519 | odd    |
|---------------------------|--------|----|----|----|--------|-------|---------|--------|
| pyjwt                     | JWT    | Y  | Y  | Y  | Y      | Y     | -       | ok     |
| joserfc                   | JWT    | Y  | Y  | Y  | Y      | Y     | Y       | ok     |
| jwcrypto                  | JWT    | Y  | Y  | Y  | Y      | Y     | Y       | ok     |
| authlib                   | JWT    | Y  | Y  | Y  | Y      | Y     | -       | ok     |
| python-jose               | JWT    | Y  | -  | Y  | -      | -     | -       | ok     |
| python-jose-whole-set     | JWT    | Y  | -  | Y  | -      | -     | -       | breaks |
| google-auth               | JWT    | Y  | Y  | Y  | Y      | Y     | -       | ok     |
| jose                      | JWT    | Y  | Y  | Y  | -      | Y     | Y       | ok     |
| jose, node 24             | JWT    | Y  | Y  | Y  | -      | Y     | Y       | ok     |
| oauth4webapi              | at+jwt | Y  | Y  | Y  | -      | Y     | Y       | ok     |
| express-oauth2-jwt-bearer | at+jwt | Y  | Y  | Y  | Y      | Y     | -       | ok     |
| jsonwebtoken              | JWT    | Y  | Y  | Y  | -      | -     | -       | ok     |
| fast-jwt                  | JWT    | Y  | Y  | Y  | -      | -     | -       | ok     |
| aws-jwt-verify            | JWT    | Y  | -  | Y  | -      | Y     | -       | ok     |
| hono                      | JWT    | Y  | Y  | Y  | -      | Y     | -       | ok     |
| node-jose                 | JWT    | Y  | Y  | Y  | -      | -     | -       | breaks |
| jsrsasign                 | JWT    | Y  | Y  | Y  | -      | -     | -       | ok     |
"""

GATEWAYS = """
| verifier                  | typ    | RS | PS | ES | ES256K | EdDSA | Ed25519 | odd    |
|---------------------------|--------|----|----|----|--------|-------|---------|--------|
| envoy                     | JWT    | Y  | Y  | Y  | -      | Y     | -       | ok     |
| nginx                     | JWT    | Y  | Y  | Y  | Y      | Y     | -       | ok     |
| apache                    | JWT    | Y  | Y  | Y  | -      | -     | -       | ok     |
| haproxy                   | JWT    | Y  | Y  | Y  | -      | -     | -       | ok     |
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
    ODD: ("RS256", "ES256", "ES256K", "EdDSA"),
}
"""The algorithms of each issuer, so of each JWK Set."""

NOT_YET: frozenset[str] = frozenset()
"""Algorithms that the service cannot make keys for; a test shows for each that it cannot."""


@dataclass(frozen=True, slots=True)
class Row:
    """A verifier."""

    typ: str
    columns: Mapping[str, bool]
    odd: bool

    def verifies(self, name: str, algorithm: str) -> bool:
        """Tell whether it must verify a token of a set."""
        column = algorithm if algorithm in self.columns else algorithm[:2]
        return self.columns[column] and (self.odd or name != ODD)


def rows(table: str) -> dict[str, Row]:
    """Parse a table."""
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in table.strip().splitlines())
    parsed = {}
    for name, typ, *cells, odd in body:
        assert set(cells) <= {"Y", "-"}, name
        assert odd in {"ok", "breaks"}, name
        parsed[name] = Row(typ, {c: cell == "Y" for c, cell in zip(head[2:-1], cells, strict=True)}, odd == "ok")
    return parsed
