from __future__ import annotations

import inspect
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.jose.claims import ClaimsPolicy, ClaimsRequest, build_claims
from sealwright.jose.jwk import to_jwk
from sealwright.jose.token import compact, compact_length, header_segment, signing_input
from unit.jose.keys import SIGNING, decode, key_for, rsa_key, sign

POLICY = ClaimsPolicy(
    issuer="https://id.example.com", default_lifetime=timedelta(minutes=10), max_lifetime=timedelta(hours=1)
)
KID = "7Yxe6c_3bAa6kiaK1G-BZmi9EeNsUmlcbdnrtLeuK4E"


def header(token: str) -> dict[str, object]:
    members: dict[str, object] = json.loads(decode(token.split(".", maxsplit=1)[0]))
    return members


@pytest.mark.parametrize("algorithm", SIGNING.values(), ids=list(SIGNING))
def test_c74_the_length_of_a_token_is_known_before_it_is_signed(algorithm: Algorithm) -> None:
    key = key_for(algorithm)
    groups = json.dumps({"groups": [f"group-{i:04}" for i in range(300)]})
    claims = build_claims(ClaimsRequest(claims_json=groups), POLICY, now=datetime.now(UTC), jwt_id="j")
    signed = signing_input(header_segment(alg=algorithm.name, kid=KID, typ="JWT"), claims.payload)
    expected = compact_length(signed, algorithm.signature_size(key.public_key()))
    assert len(compact(signed, sign(key, algorithm, signed))) == expected


def test_c74_an_rsa_4096_signature_takes_683_characters() -> None:
    assert compact_length(b"h.p", ALGORITHMS["RS256"].signature_size(rsa_key(4096).public_key())) == len("h.p.") + 683


@pytest.mark.parametrize("alg", list(ALGORITHMS))
def test_c74_the_header_stays_under_512_bytes(alg: str) -> None:
    assert len(decode(header_segment(alg=alg, kid=KID, typ="x" * 64))) < 512


@given(st.integers(0, 200), st.integers(1, 600))
def test_c74_the_length_is_right_for_every_size(payload: int, signature: int) -> None:
    signed = signing_input("h", bytes(payload))
    assert compact_length(signed, signature) == len(compact(signed, bytes(signature)))


@pytest.mark.parametrize("algorithm", SIGNING.values(), ids=list(SIGNING))
def test_c79_the_kid_of_a_token_is_that_of_its_published_key(algorithm: Algorithm) -> None:
    jwk = to_jwk(key_for(algorithm).public_key(), algorithm).as_dict()
    segment = header_segment(alg=jwk["alg"], kid=jwk["kid"], typ="JWT")
    assert header(segment) == {"alg": algorithm.name, "kid": jwk["kid"], "typ": "JWT"}
    assert jwk["kid"]


def test_c80_c81_c82_a_caller_has_no_way_to_set_a_header_member() -> None:
    assert set(inspect.signature(header_segment).parameters) == {"alg", "kid", "typ"}
    assert set(ClaimsRequest._fields) == {
        "claims_json",
        "subject",
        "audience",
        "lifetime",
        "not_before",
    }


@pytest.mark.parametrize(
    "member",
    ["alg", "kid", "typ", "jku", "jwk", "x5u", "x5c", "x5t", "x5t#S256", "crit", "b64", "zip", "enc", "cty", "ALG"],
)
def test_c80_c81_c82_names_of_header_members_in_the_claims_stay_claims(member: str) -> None:
    request = ClaimsRequest(claims_json=json.dumps({member: "none"}))
    claims = build_claims(request, POLICY, now=datetime.now(UTC), jwt_id="j")
    token = compact(signing_input(header_segment(alg="ES256", kid=KID, typ="JWT"), claims.payload), bytes(64))
    assert header(token) == {"alg": "ES256", "kid": KID, "typ": "JWT"}
    assert json.loads(decode(token.split(".")[1]))[member] == "none"


@pytest.mark.parametrize("hostile", ['JWT","jku":"http://169.254.169.254/', 'x"}{"alg":"none', "a\nb", "\u00fc"])
def test_c80_text_in_a_header_cannot_leave_its_member(hostile: str) -> None:
    assert header(header_segment(alg="ES256", kid=hostile, typ=hostile)) == {
        "alg": "ES256",
        "kid": hostile,
        "typ": hostile,
    }


@pytest.mark.parametrize("typ", ["JWT", "at+jwt", "logout+jwt"])
def test_c83_the_token_type_is_written_in_its_short_form(typ: str) -> None:
    assert header(header_segment(alg="ES256", kid=KID, typ=typ))["typ"] == typ


def test_the_header_has_no_spaces_and_one_order() -> None:
    text = decode(header_segment(typ="JWT", kid="k", alg="ES256")).decode()
    assert text == '{"alg":"ES256","kid":"k","typ":"JWT"}'


@given(st.binary(max_size=300))
def test_the_signed_bytes_are_the_bytes_of_the_token(payload: bytes) -> None:
    signed = signing_input("h", payload)
    token = compact(signed, b"signature")
    assert token.rpartition(".")[0].encode() == signed
    assert decode(token.split(".")[1]) == payload
