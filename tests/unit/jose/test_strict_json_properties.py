from __future__ import annotations

import json
import math
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sealwright.errors import InvalidRequestError
from sealwright.jose.claims import ClaimsPolicy, ClaimsRequest, build_claims
from sealwright.jose.strict_json import MAX_DEPTH, LargeInteger, StrictJsonError, depth, parse_object, plain_names

POLICY = ClaimsPolicy(issuer="https://i", default_lifetime=timedelta(minutes=1), max_lifetime=timedelta(hours=1))
NOW = datetime(2026, 11, 25, tzinfo=UTC)
REGISTERED = {"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXT, st.just(10**30)
)
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cf"]), max_size=12)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=4) | st.dictionaries(NAMES, v, max_size=4), max_leaves=20)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=6)
SEPARATORS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t:\r "), ("  ,  ", "  :  ")])
SOUP = st.text(st.sampled_from('{}[]",:\\ \n\t0123456789.eE+-truefalsnNIiyud800\ud800\u00fc'), max_size=40)


class Refused(Exception):  # noqa: N818 - a reader's verdict, not an error of this suite
    """The error of the reference parser."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if any(unicodedata.category(c) in {"Cc", "Cf"} for name, _ in pairs for c in name):
        raise Refused
    if len({name for name, _ in pairs}) != len(pairs):
        raise Refused
    return dict(pairs)


def _whole(text: str) -> int:
    _finite(text)
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(float(text)):
        raise Refused
    return float(text)


def _never(_name: str) -> None:
    raise Refused


def reference(text: str) -> dict[str, Any]:
    """Parse a strict JSON object in another way: with the standard library, and a walk over its result."""
    try:
        value = json.loads(
            text, object_pairs_hook=_unique, parse_int=_whole, parse_float=_finite, parse_constant=_never
        )
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as e:
        raise Refused from e
    if not isinstance(value, dict) or _levels(value) > MAX_DEPTH:
        raise Refused
    return value


def _levels(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(_levels, value.values()), default=0)
    return 1 + max(map(_levels, value), default=0) if isinstance(value, list) else 0


def plain(value: Any) -> Any:
    """Convert large integers, which are kept as text, to numbers."""
    match value:
        case LargeInteger():
            return int(value.text)
        case dict():
            return {name: plain(member) for name, member in value.items()}
        case list():
            return [plain(item) for item in value]
        case _:
            return value


@given(value=OBJECTS, separators=SEPARATORS, ensure_ascii=st.booleans())
def test_an_accepted_object_has_the_values_and_the_text_of_its_members(
    value: dict[str, Any], separators: tuple[str, str], *, ensure_ascii: bool
) -> None:
    text = json.dumps(value, separators=separators, ensure_ascii=ensure_ascii)
    members = parse_object(f" {text}\n", "c")
    assert {m.name: plain(m.value) for m in members} == value
    for member in members:
        label, raw = json.dumps(member.name, ensure_ascii=ensure_ascii), member.raw
        assert member.text == f"{label}:{raw}"
        assert raw == json.dumps(value[member.name], separators=separators, ensure_ascii=ensure_ascii)
        assert label in text
        assert raw in text


@given(value=OBJECTS, separators=SEPARATORS, ensure_ascii=st.booleans())
def test_the_payload_says_what_the_caller_said(
    value: dict[str, Any], separators: tuple[str, str], *, ensure_ascii: bool
) -> None:
    assume(not {name.casefold() for name in value} & REGISTERED)
    text = json.dumps(value, separators=separators, ensure_ascii=ensure_ascii)
    payload = build_claims(ClaimsRequest(claims_json=text), POLICY, now=NOW, jwt_id="j").payload.decode()
    read = json.loads(payload, object_pairs_hook=_unique)
    assert {name: member for name, member in read.items() if name not in REGISTERED} == value
    assert [name for name in read if name not in REGISTERED] == list(value)
    assert all(m.text in payload for m in parse_object(text, "c"))


@given(SOUP | OBJECTS.map(json.dumps))
@example('{"a":NaN}')
@example('{"a":1,"a":1}')
@example('{"a":"\\ud800"}')
@example('{"a":1e999}')
@example('{"a":"\ud800\\udc00"}')
@example("[" * 2000)
def test_the_language_is_that_of_another_strict_reader(text: str) -> None:
    try:
        expected = reference(text)
    except Refused:
        with pytest.raises(StrictJsonError):
            parse_object(text, "c")
    else:
        assert {m.name: plain(m.value) for m in parse_object(text, "c")} == expected


PLAIN_TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters='"\\\\'), max_size=8)
PLAIN_SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(10**18) + 1, 10**18 - 1), PLAIN_TEXT)
PLAIN_OBJECTS = st.dictionaries(PLAIN_TEXT, PLAIN_SCALARS | st.lists(PLAIN_SCALARS, max_size=4), max_size=6)


def compact(value: dict[str, Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


@given(PLAIN_OBJECTS)
def test_the_names_of_a_plain_object_are_found_at_a_glance(value: dict[str, Any]) -> None:
    assert plain_names(compact(value)) == list(value)


@given(PLAIN_OBJECTS.map(compact), st.data())
def test_what_looks_plain_is_what_the_strict_parser_accepts(text: str, data: st.DataObject) -> None:
    """Put some characters in place of others, and ask both."""
    at = data.draw(st.integers(0, len(text)))
    text = text[:at] + data.draw(SOUP.map(lambda s: s[:3])) + text[at + data.draw(st.integers(0, 3)) :]
    names = plain_names(text)
    if names is not None:
        members = parse_object(text, "c")
        assert [m.name for m in members] == names
        assert ",".join(m.text for m in members) == text[1:-1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}x",
        "{,}",
        '{"a":1,}',
        '{"a":1,"a":2}',
        '{"a":01}',
        '{"a":1.5}',
        '{"a":1234567890123456789}',
        '{"a": 1}',
        '{"a":"\\u0062"}',
        '{"a":"\x7f"}',
        '{"a":"\u00fc"}',
        '{"a":{}}',
        '{"a":[[]]}',
        '{"a":NaN}',
        '{"a":"b}',
        "{" + ",".join(f'"{n}":0' for n in range(1001)) + "}",
        '{"a":"' + "b" * 2**16 + '"}',
    ],
)
def test_what_needs_a_second_look_is_not_plain(text: str) -> None:
    assert plain_names(text) is None


@given(OBJECTS, st.data())
def test_one_flaw_at_any_depth_is_refused_with_its_path(value: dict[str, Any], data: st.DataObject) -> None:
    """Put a marker somewhere into the tree, and replace it in the text with something that must be refused."""
    text, path = json.dumps("MARK"), "c"
    for _ in range(data.draw(st.integers(1, MAX_DEPTH - 2))):
        if data.draw(st.booleans()):
            before = data.draw(st.lists(SCALARS, max_size=2))
            text = json.dumps([*before, "HERE"]).replace('"HERE"', text)
            path = path.replace("c", f"c[{len(before)}]", 1)
        else:
            text = json.dumps({"zero": 0, "deep": "HERE"}).replace('"HERE"', text)
            path = path.replace("c", "c.deep", 1)
    text = json.dumps(value | {"top": "HERE"}).replace('"HERE"', text)
    path = path.replace("c", "c.top", 1)
    flaw, suffix = data.draw(
        st.sampled_from(
            [
                ("NaN", ""),
                ("Infinity", ""),
                ("-Infinity", ""),
                ("1e999", ""),
                ('"\\ud800"', ""),
                ('"\\udfffx"', ""),
                ('{"twice":1,"twice":1}', ".twice"),
                ('{"twice":1,"\\u0074wice":1}', ".twice"),
            ]
        )
    )
    assume(text.count('"MARK"') == 1)
    assert parse_object(text, "c")
    with pytest.raises(StrictJsonError) as caught:
        parse_object(text.replace('"MARK"', flaw), "c")
    assert [v.field for v in caught.value.violations] == [path + suffix]


@given(value=VALUES, more=st.integers(0, 2 * MAX_DEPTH), lists=st.booleans())
def test_depth_counts_what_a_walk_counts(value: Any, more: int, *, lists: bool) -> None:
    tree: Any = {"a": value}
    for _ in range(more):
        tree = {"a": [tree] if lists else tree}
    text = json.dumps(tree)
    assert depth(text) == _levels(tree)
    if _levels(tree) <= MAX_DEPTH:
        assert parse_object(text, "c")
    else:
        with pytest.raises(StrictJsonError) as caught:
            parse_object(text, "c")
        assert (
            caught.value.violations[0].description
            == "lists and objects are nested too deeply; at most 32 levels are allowed"
        )


@given(st.text() | SOUP | SOUP.map(lambda s: '{"a":' + s + "}"))
def test_no_text_raises_anything_but_a_refusal(text: str) -> None:
    try:
        claims = build_claims(ClaimsRequest(claims_json=text), POLICY, now=NOW, jwt_id="j")
    except InvalidRequestError:
        return
    assert json.loads(claims.payload)["iss"] == "https://i"
