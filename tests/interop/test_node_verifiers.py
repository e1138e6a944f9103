"""Node.js libraries read the served JWK Set and verify with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from interop.interop_support import ALGORITHMS, AUDIENCE, ISSUERS, MAIN, REFUSED, SUBJECT, Realm, Tokens, issuer_url
from interop.node_support import LIBRARIES, Node

REFUSALS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "jose": {
        "expired": ("ERR_JWT_EXPIRED", ""),
        "tampered": ("ERR_JWS_SIGNATURE_VERIFICATION_FAILED", ""),
        "forged": ("ERR_JWS_SIGNATURE_VERIFICATION_FAILED", ""),
        "unknown_kid": ("ERR_JWKS_NO_MATCHING_KEY", ""),
        "wrong_audience": ("ERR_JWT_CLAIM_VALIDATION_FAILED", '"aud"'),
    },
    "jsonwebtoken": {
        "expired": ("TokenExpiredError", ""),
        "tampered": ("JsonWebTokenError", "invalid signature"),
        "forged": ("JsonWebTokenError", "invalid signature"),
        "unknown_kid": ("JsonWebTokenError", "Unable to find a signing key"),
        "wrong_audience": ("JsonWebTokenError", "jwt audience invalid"),
    },
}
"""The error and a part of its message, by library and by why it refuses."""


def job(realm: Realm, tokens: Mapping[str, str], issuer: str = MAIN) -> dict[str, Any]:
    return {
        "url": realm.url(issuer),
        "issuer": issuer_url(issuer),
        "audience": AUDIENCE,
        "algorithms": ALGORITHMS,
        "tokens": tokens,
    }


@dataclass(frozen=True, slots=True)
class Judged:
    library: str
    results: Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="session", params=LIBRARIES)
def judged(request: pytest.FixtureRequest, node: Node, realm: Realm, tokens: Tokens) -> Judged:
    answer = node.run(request.param, job(realm, tokens.named()))
    return Judged(request.param, answer["results"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_verifies(judged: Judged, algorithm: str) -> None:
    result = judged.results[f"good/{algorithm}"]
    assert "error" not in result
    assert result["claims"]["iss"] == issuer_url()
    assert result["claims"]["sub"] == SUBJECT


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_c01_a_short_r_or_s_verifies(judged: Judged, algorithm: str) -> None:
    assert "error" not in judged.results[f"narrow/{algorithm}"]


@pytest.mark.parametrize("why", REFUSED)
def test_a_bad_token_is_refused_for_what_is_wrong_with_it(judged: Judged, why: str) -> None:
    error, text = REFUSALS[judged.library][why]
    for algorithm in ALGORITHMS:
        result = judged.results[f"{why}/{algorithm}"]
        assert result.get("error") == error, result
        assert text in result["message"]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("issuer", ISSUERS)
def test_every_published_key_is_usable(library: str, issuer: str, node: Node, realm: Realm) -> None:
    good = {a: realm.sign(a, issuer).token for a in ISSUERS[issuer]}
    answer = node.run(library, job(realm, good, issuer))
    assert sorted(answer["keys"]) == sorted(k["kid"] for k in realm.published(issuer))
    assert {a: r["claims"]["sub"] for a, r in answer["results"].items()} == dict.fromkeys(good, SUBJECT)
