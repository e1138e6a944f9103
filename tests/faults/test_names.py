"""Kind G: names and values that one reader takes for something else than another."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.access.patterns import Pattern
from sealwright.errors import InvalidRequestError
from sealwright.jose.claims import ClaimsPolicy, ClaimsRequest, build_claims

POLICY = ClaimsPolicy(
    issuer="https://id.example.com", default_lifetime=timedelta(minutes=5), max_lifetime=timedelta(hours=1)
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
REGISTERED = ("iss", "sub", "aud", "exp", "nbf", "iat", "jti")
BIDIRECTIONAL = "\u061c\u200e\u200f\u202a\u202e\u2066\u2069"
CONTROLS = "\x00\x01\t\n\r\x1b\x7f\x85"


def build(claims: str, **more: object) -> str:
    request = ClaimsRequest(claims_json=claims, **more)  # type: ignore[arg-type]
    return build_claims(request, POLICY, now=NOW, jwt_id="j").payload.decode()


def careless(name: str) -> str:
    """Return what a reader makes of a name that drops what it cannot show, cuts at NUL and ignores case."""
    shown = "".join(c for c in name.partition("\0")[0] if unicodedata.category(c) not in {"Cc", "Cf"})
    return unicodedata.normalize("NFKC", shown).casefold()


@pytest.mark.parametrize(
    "name",
    [
        "iss\0",
        "sub\0x",
        "\u200biss",
        "is\u00ads",
        "iss\u200d",
        "ISS",
        "\uff49\uff53\uff53",
        "\U0001d42c\U0001d42e\U0001d41b",
        "\u017fub",
        "exp\ufeff",
        "\tiat",
    ],
)
def test_f40_no_name_can_be_taken_for_a_registered_claim(name: str) -> None:
    assert careless(name) in REGISTERED
    with pytest.raises(InvalidRequestError):
        build(json.dumps({name: "x"}))


@given(st.text(st.sampled_from("issubadexpnbftjISSUB\0\u200b\u00ad\u202e \u017f\uff49\t"), min_size=1, max_size=6))
def test_f40_what_is_signed_has_no_name_that_careless_readers_confuse(name: str) -> None:
    try:
        payload = build(json.dumps({"deep": [{name: 1}], name: "x"}))
    except InvalidRequestError:
        return
    members = json.loads(payload)
    assert [n for n in members if careless(n) in REGISTERED and n not in REGISTERED] == []
    assert all(unicodedata.category(c) not in {"Cc", "Cf"} for n in (*members, *members["deep"][0]) for c in n)


@pytest.mark.parametrize("name", ["a\0", "a\u202eb", "\x1b[31m"])
@pytest.mark.parametrize("shape", ['{"a":{%s:1}}', '{"a":[[{%s:1}]]}', "{%s:1}"])
def test_f40_no_name_at_any_depth_has_control_or_format_characters(name: str, shape: str) -> None:
    with pytest.raises(InvalidRequestError, match="control or format"):
        build(shape % json.dumps(name))


def test_f40_claims_of_every_script_are_signed() -> None:
    claims = {
        "na\u00efve": 1,
        "\u0438\u043c\u044f": 2,
        "\u540d\u524d": 3,
        "cl\u00e9\u00a0ouverte": 4,
        "act": {"sub": "service"},
    }
    assert json.loads(build(json.dumps(claims)))["act"] == {"sub": "service"}


@pytest.mark.parametrize("bad", [*CONTROLS, *BIDIRECTIONAL])
def test_f41_no_subject_or_audience_has_control_or_bidirectional_characters(bad: str) -> None:
    value = f"user{bad}1"
    for claims, more in (
        (json.dumps({"sub": value}), {}),
        (json.dumps({"aud": value}), {}),
        (json.dumps({"aud": ["a", value]}), {}),
        ("{}", {"subject": value}),
        ("{}", {"audience": ("a", value)}),
    ):
        with pytest.raises(InvalidRequestError, match="control and bidirectional"):
            build(claims, **more)


@pytest.mark.parametrize("dots", [".", "..", "%2e", "%2E.", ".%2e"])
def test_f41_a_star_stands_for_no_dot_segment(dots: str) -> None:
    assert not Pattern("users/*").matches(f"users/{dots}")
    assert not Pattern("users/*/keys").matches(f"users/{dots}/keys")
    assert not Pattern("users/**").matches(f"users/{dots}")
    assert not Pattern("users/**").matches(f"users/a/{dots}/admin")
    assert Pattern("users/*").matches(f"users/a{dots}")
    assert Pattern("users/**").matches("users/a/...b/c")
    assert Pattern("**").matches(dots)
