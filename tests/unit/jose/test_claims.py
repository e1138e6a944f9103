from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sealwright.errors import (
    ClaimNotAllowedError,
    InvalidRequestError,
    LifetimeTooLongError,
    RequestInvalidError,
)
from sealwright.jose.claims import Claims, ClaimsPolicy, ClaimsRequest, build_claims

NOW = datetime(2026, 11, 25, 12, 0, 0, 999_999, tzinfo=UTC)
IAT = 1795608000
POLICY = ClaimsPolicy(
    issuer="https://id.example.com/payments",
    default_lifetime=timedelta(minutes=10),
    max_lifetime=timedelta(hours=1),
)
CHOOSES_JTI = ClaimsPolicy(
    issuer="https://i", default_lifetime=timedelta(minutes=10), max_lifetime=timedelta(hours=1), caller_chooses_jti=True
)


def build(text: str = "{}", policy: ClaimsPolicy = POLICY, **fields: Any) -> Claims:
    return build_claims(ClaimsRequest(claims_json=text, **fields), policy, now=NOW, jwt_id="fresh")


def refused(kind: type[InvalidRequestError], *paths: str, text: str = "{}", **fields: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        build(text, **fields)
    assert type(caught.value) is kind
    assert [v.field for v in caught.value.violations] == list(paths)
    return caught.value


def test_the_registered_claims_come_first_and_the_callers_follow_as_written() -> None:
    claims = build('{ "b" : 1.50, "a":[ 1,2 ] }', subject="u", audience=["a", "b"], not_before=NOW)
    assert claims.payload.decode() == (
        '{"iss":"https://id.example.com/payments","sub":"u","aud":["a","b"],'
        f'"iat":{IAT},"nbf":{IAT},"exp":{IAT + 600},"jti":"fresh","b":1.50,"a":[ 1,2 ]}}'
    )


def test_the_result_says_what_the_payload_says() -> None:
    claims = build(f'{{"sub":"u","aud":["a"],"nbf":1,"exp":{IAT + 60}}}')
    payload = json.loads(claims.payload)
    assert claims.subject == payload["sub"]
    assert list(claims.audience) == payload["aud"]
    assert (claims.issue_time, claims.not_before, claims.expire_time) == (IAT, 1, IAT + 60)
    assert (payload["iat"], payload["nbf"], payload["exp"]) == (IAT, 1, IAT + 60)
    assert claims.jwt_id == payload["jti"] == "fresh"


def test_c60_times_are_written_as_integers() -> None:
    text = build(f'{{"exp":{IAT + 60}}}', not_before=NOW).payload.decode()
    assert f'"exp":{IAT + 60},' in text
    assert not re.search(r"\.0\b|\de\+", text)


@pytest.mark.parametrize("digits", ["9007199254740993", "18446744073709551616", "-9007199254740993", "1" * 308])
def test_c61_integers_keep_their_digits(digits: str) -> None:
    assert f'"uid":{digits}}}' in build(f'{{"uid":{digits}}}').payload.decode()


@pytest.mark.parametrize("literal", ["1.10", "1e2", "0.1", "123456789.123456789123456789", "-0", "1E-7"])
def test_c61_other_numbers_are_kept_as_they_are_written(literal: str) -> None:
    assert f'"n":{literal}}}' in build(f'{{"n":{literal}}}').payload.decode()


@pytest.mark.parametrize("name", ["exp", "nbf"])
@pytest.mark.parametrize(
    "value", ['"1700000000"', '"2026-01-01T00:00:00Z"', "true", "false", "null", "[]", "{}", "1795608060.5", "1e9"]
)
def test_c63_a_time_that_is_no_whole_number_is_refused(name: str, value: str) -> None:
    refused(RequestInvalidError, f"claims_json.{name}", text=f'{{"{name}":{value}}}')


@pytest.mark.parametrize("value", ['"2026-01-01T00:00:00Z"', "true", "null", "[]", "{}", str(IAT)])
def test_c63_iat_is_refused_whatever_its_value(value: str) -> None:
    refused(ClaimNotAllowedError, "claims_json.iat", text=f'{{"iat":{value}}}')


@pytest.mark.parametrize("exp", [-1, 0, 1, IAT - 1, IAT, -(10**20), "-0"])
def test_c65_an_exp_that_is_past_is_refused(exp: object) -> None:
    refused(RequestInvalidError, "claims_json.exp", text=f'{{"exp":{exp}}}')


@pytest.mark.parametrize("exp", [IAT + 3601, IAT + 100 * 365 * 86400, 10**19, 10**20, 10**300])
def test_c65_an_exp_that_is_too_far_is_refused(exp: int) -> None:
    error = refused(LifetimeTooLongError, "claims_json.exp", text=f'{{"exp":{exp}}}')
    assert "longer than 3600 s" in error.message
    assert "milliseconds" not in error.message


@pytest.mark.parametrize("exp", [1700000000000, (IAT + 60) * 1000])
def test_c65_an_exp_of_13_digits_is_taken_for_milliseconds(exp: int) -> None:
    error = refused(LifetimeTooLongError, "claims_json.exp", text=f'{{"exp":{exp}}}')
    assert "milliseconds" in error.message


@pytest.mark.parametrize("lifetime", [1, 600, 3600])
def test_c65_a_lifetime_up_to_the_limit_is_granted(lifetime: int) -> None:
    assert build(lifetime=timedelta(seconds=lifetime)).expire_time == IAT + lifetime
    assert build(f'{{"exp":{IAT + lifetime}}}').expire_time == IAT + lifetime


def test_c67_iat_is_the_floor_of_now_and_a_token_has_no_nbf_of_its_own() -> None:
    payload = json.loads(build().payload)
    assert payload["iat"] == IAT
    assert "nbf" not in payload


@pytest.mark.parametrize(
    ("aud", "audience"), [('"a"', ("a",)), ('["a"]', ("a",)), ('[ "a","b" ]', ("a", "b")), ('"\\u0061"', ("a",))]
)
def test_c69_an_aud_in_the_json_keeps_its_shape(aud: str, audience: tuple[str, ...]) -> None:
    claims = build(f'{{"aud":{aud}}}')
    assert f'"aud":{aud},"iat"' in claims.payload.decode()
    assert claims.audience == audience


@pytest.mark.parametrize(("audience", "text"), [(["a"], '"a"'), (["a", "b"], '["a","b"]')])
def test_c69_one_audience_is_a_string_and_several_are_a_list(audience: list[str], text: str) -> None:
    assert f'"aud":{text},"iat"' in build(audience=audience).payload.decode()


@pytest.mark.parametrize("aud", ["[]", '[""]', '""', '["a",5]', "5", "null", "true", "{}", '[["a"]]', '["a",null]'])
def test_c69_an_aud_of_another_shape_is_refused(aud: str) -> None:
    refused(RequestInvalidError, "claims_json.aud", text=f'{{"aud":{aud}}}')


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"role":"user","role":"admin"}', "claims_json.role"),
        ('{"role":"user","\\u0072ole":"admin"}', "claims_json.role"),
        ('{"a":{"role":"user","role":"admin"}}', "claims_json.a.role"),
        ('{"a":[0,{"role":"user","\\u0072ole":"admin"}]}', "claims_json.a[1].role"),
        ('{"exp":1,"exp":1}', "claims_json.exp"),
    ],
)
def test_c71_duplicate_names_are_refused(text: str, path: str) -> None:
    with pytest.raises(RequestInvalidError) as caught:
        build(text)
    assert path in {v.field for v in caught.value.violations if "more than once" in v.description}


@pytest.mark.parametrize(
    "text",
    [
        '{"iss":"https://evil","exp":9999999999}',
        '{"exp":9999999999,"iss":"https://evil"}',
        '{"\\u0069ss":"https://evil","exp":9999999999}',
    ],
)
def test_c77_the_caller_cannot_set_the_issuer(text: str) -> None:
    error = refused(ClaimNotAllowedError, "claims_json.iss", "claims_json.exp", text=text)
    assert error.message == "claims_json.iss: only the service sets this claim"


@pytest.mark.parametrize("name", ["iss", "iat", "jti"])
def test_c77_claims_of_the_service_are_refused_even_if_they_agree(name: str) -> None:
    same = json.loads(build().payload)[name]
    refused(ClaimNotAllowedError, f"claims_json.{name}", text=json.dumps({name: same}))


@pytest.mark.parametrize("name", ["ISS", "Iss", "i\u017f\u017f", "SUB", "\u017fub", "Aud", "EXP", "Nbf", "IAT", "JTI"])
def test_c77_a_name_that_some_verifiers_take_for_a_registered_one_is_refused(name: str) -> None:
    path = f"claims_json.{json.dumps(name)[1:-1]}"
    refused(ClaimNotAllowedError, path, text=json.dumps({name: "x"}, ensure_ascii=False))
    refused(ClaimNotAllowedError, path, text=json.dumps({name: "x"}))


@pytest.mark.parametrize("name", ["issuer", "iss ", " iss", "is", "isss", "\u0131at", "x-iss"])
def test_c77_names_that_only_resemble_registered_ones_are_the_callers(name: str) -> None:
    assert json.loads(build(json.dumps({name: "x"})).payload)[name] == "x"


def test_c77_escaped_registered_names_are_written_once() -> None:
    payload = build(f'{{"\\u0065xp":{IAT + 60},"s\\u0075b":"u"}}', subject="u").payload.decode()
    pairs = json.JSONDecoder(object_pairs_hook=lambda p: [name for name, _ in p]).decode(payload)
    assert pairs == ["iss", "sub", "iat", "exp", "jti"]


def test_jti_is_the_callers_only_where_the_issuer_says_so() -> None:
    assert build('{"jti":"mine"}', CHOOSES_JTI).jwt_id == "mine"
    assert build("{}", CHOOSES_JTI).jwt_id == "fresh"
    assert build('{"jti":"mine"}', CHOOSES_JTI).payload.count(b'"jti"') == 1


@pytest.mark.parametrize("jti", ['""', "5", "null", "true", '["a"]'])
def test_a_jti_that_is_no_text_is_refused(jti: str) -> None:
    refused(RequestInvalidError, "claims_json.jti", text=f'{{"jti":{jti}}}', policy=CHOOSES_JTI)


@pytest.mark.parametrize("sub", ['""', "5", "null", "true", '["u"]', '{"a":1}'])
def test_a_sub_that_is_no_text_is_refused(sub: str) -> None:
    refused(RequestInvalidError, "claims_json.sub", text=f'{{"sub":{sub}}}')


def test_a_claim_may_stand_in_the_json_and_in_its_field_if_both_agree() -> None:
    claims = build(
        f'{{"sub":"u","aud":["a"],"exp":{IAT + 60},"nbf":{IAT}}}',
        subject="u",
        audience=["a"],
        lifetime=timedelta(seconds=60),
        not_before=NOW,
    )
    assert claims.payload.decode() == (
        '{"iss":"https://id.example.com/payments","sub":"u","aud":["a"],'
        f'"iat":{IAT},"nbf":{IAT},"exp":{IAT + 60},"jti":"fresh"}}'
    )


@pytest.mark.parametrize(
    ("text", "fields", "path"),
    [
        ('{"sub":"u"}', {"subject": "v"}, "subject"),
        ('{"aud":"a"}', {"audience": ["b"]}, "audience"),
        ('{"aud":["a","b"]}', {"audience": ["b", "a"]}, "audience"),
        ('{"aud":["a","b"]}', {"audience": ["a"]}, "audience"),
        (f'{{"exp":{IAT + 60}}}', {"lifetime": timedelta(seconds=61)}, "lifetime"),
        (f'{{"nbf":{IAT + 1}}}', {"not_before": NOW}, "not_before"),
    ],
)
def test_two_values_that_differ_are_refused(text: str, fields: dict[str, Any], path: str) -> None:
    assert "differs" in refused(RequestInvalidError, path, text=text, **fields).message
    build("{}", **fields)


@pytest.mark.parametrize(
    "lifetime",
    [timedelta(0), timedelta(seconds=-1), timedelta(days=-999999999)],
)
def test_a_lifetime_that_is_over_at_once_is_refused(lifetime: timedelta) -> None:
    refused(RequestInvalidError, "lifetime", lifetime=lifetime)


@pytest.mark.parametrize("lifetime", [timedelta(seconds=3601), timedelta.max - timedelta(microseconds=999_999)])
def test_a_lifetime_beyond_the_limit_is_refused(lifetime: timedelta) -> None:
    refused(LifetimeTooLongError, "lifetime", lifetime=lifetime)


@pytest.mark.parametrize("lifetime", [timedelta(microseconds=1_000_001), timedelta(seconds=59, milliseconds=500)])
def test_a_lifetime_of_part_seconds_is_refused(lifetime: timedelta) -> None:
    refused(RequestInvalidError, "lifetime", lifetime=lifetime)


@pytest.mark.parametrize("moment", [NOW - timedelta(days=30000), datetime(1969, 12, 31, 23, 59, 59, 500_000, UTC)])
def test_a_not_before_that_lies_before_the_epoch_is_refused(moment: datetime) -> None:
    refused(RequestInvalidError, "not_before", not_before=moment)


@pytest.mark.parametrize("nbf", [IAT + 600, 10**19, 10**20])
def test_a_token_that_expires_before_it_is_valid_is_refused(nbf: int) -> None:
    refused(RequestInvalidError, "claims_json.nbf", text=f'{{"nbf":{nbf}}}')


def test_the_last_instant_of_the_calendar_is_not_rounded_up() -> None:
    limit = datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)
    policy = ClaimsPolicy(issuer="i", default_lifetime=timedelta(seconds=1), max_lifetime=timedelta(seconds=1))
    assert build_claims(ClaimsRequest(claims_json="{}"), policy, now=limit, jwt_id="j").issue_time == 253402300799


@pytest.mark.parametrize("bad", ["", "\ud800", "a\udfffb"])
def test_a_subject_or_an_audience_that_cannot_be_written_is_refused(bad: str) -> None:
    refused(RequestInvalidError, "subject", subject=bad)
    refused(RequestInvalidError, "audience[1]", audience=["a", bad])


def test_every_problem_is_reported_and_the_message_fits_the_reason() -> None:
    error = refused(
        RequestInvalidError,
        "claims_json.x",
        "claims_json.iss",
        "claims_json.sub",
        "audience[0]",
        "claims_json.exp",
        text='{"iss":"i","sub":1,"exp":9999999999,"x":NaN}',
        audience=[""],
    )
    assert error.message.startswith("claims_json.x: ")
    later = refused(
        RequestInvalidError, "claims_json.iss", "claims_json.sub", text='{"iss":"https://i","sub":["secret-value"]}'
    )
    assert later.message == "claims_json.sub: must be a string, not empty, without control and bidirectional characters"
    assert "secret-value" not in str(later.violations)


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\ufeff", "\U0001f600", "\u00a0"])
def test_text_outside_ascii_is_kept_as_it_is(character: str) -> None:
    payload = build(f'{{"t":"{character}"}}', subject=f"u{character}").payload
    assert f'"t":"{character}"'.encode() in payload
    assert json.loads(payload)["sub"] == f"u{character}"


@pytest.mark.parametrize("subject", ['"', "\\", 'u","admin":true,"x":"'])
def test_text_in_a_field_cannot_leave_its_claim(subject: str) -> None:
    payload = json.loads(build(subject=subject, audience=[subject, "b"]).payload)
    assert payload["sub"] == subject
    assert payload["aud"] == [subject, "b"]
    assert payload.keys() == {"iss", "sub", "aud", "iat", "exp", "jti"}
