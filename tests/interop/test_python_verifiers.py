"""Python libraries read the served JWK Set and verify with it."""

from __future__ import annotations

import pytest

from interop.interop_support import ALGORITHMS, ISSUERS, MAIN, REFUSED, SUBJECT, Realm, Tokens, issuer_url
from interop.python_support import VERIFIERS, Verifier


@pytest.fixture(params=VERIFIERS)
def verifier(request: pytest.FixtureRequest) -> Verifier:
    return VERIFIERS[request.param]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_c140_every_algorithm_verifies(verifier: Verifier, algorithm: str, realm: Realm, tokens: Tokens) -> None:
    claims = verifier.verify(realm.url(), tokens.good[algorithm])
    assert claims["iss"] == issuer_url()
    assert claims["sub"] == SUBJECT
    assert claims["größe"] == 2**53 + 1


@pytest.mark.parametrize("algorithm", ["ES256", "ES384", "ES512"])
def test_c01_a_short_r_or_s_verifies(verifier: Verifier, algorithm: str, realm: Realm, tokens: Tokens) -> None:
    assert verifier.verify(realm.url(), tokens.narrow[algorithm])["sub"] == SUBJECT


@pytest.mark.parametrize("issuer", ISSUERS)
def test_c140_every_published_key_is_usable(verifier: Verifier, issuer: str, realm: Realm) -> None:
    published = realm.published(issuer)
    assert len(published) == 2 * len(ISSUERS[issuer])
    assert verifier.usable(realm.url(issuer)) == {k["kid"]: k["alg"] for k in published}


@pytest.mark.parametrize("why", REFUSED)
def test_a_bad_token_is_refused_for_what_is_wrong_with_it(
    verifier: Verifier, why: str, realm: Realm, tokens: Tokens
) -> None:
    assert set(tokens.refused[why]) == set(ALGORITHMS)
    for token in tokens.refused[why].values():
        with pytest.raises(verifier.refusals[why]) as refused:
            verifier.verify(realm.url(), token)
        assert refused.type is verifier.refusals[why]


@pytest.mark.parametrize("issuer", [name for name in ISSUERS if name != MAIN])
def test_a_token_of_another_issuer_is_refused(verifier: Verifier, issuer: str, realm: Realm) -> None:
    token = realm.sign(ISSUERS[issuer][0], issuer).token
    with pytest.raises(verifier.refusals["unknown_kid"]):
        verifier.verify(realm.url(), token)
