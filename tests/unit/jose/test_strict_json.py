from __future__ import annotations

import math
import time
import tracemalloc

import pytest

from sealwright.jose.strict_json import (
    MAX_BYTES,
    MAX_VIOLATIONS,
    LargeInteger,
    StrictJsonError,
    depth,
    parse_object,
)


def paths(text: str) -> list[str]:
    with pytest.raises(StrictJsonError) as caught:
        parse_object(text, "c")
    return [v.field for v in caught.value.violations]


def nested(levels: int) -> str:
    return '{"a":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "1",
        '"a"',
        "[]",
        "{",
        "}",
        "{}}",
        "{}x",
        "{}{}",
        '{"a"}',
        '{"a":}',
        '{"a":1,}',
        '{,"a":1}',
        '{"a":1 "b":2}',
        '{"a":1;"b":2}',
        "{'a':1}",
        "{a:1}",
        "{1:1}",
        '{"a":01}',
        '{"a":+1}',
        '{"a":.5}',
        '{"a":1.}',
        '{"a":0x1}',
        '{"a":1e}',
        '{"a":tru}',
        '{"a":"\n"}',
        '{"a\n":1}',
        '{"a":"\x00"}',
        '{"a":"\\x"}',
        '{"\\x":1}',
        '{"a":"\\u12"}',
        '{"a":"b',
        '{"a":[1,2}',
        '\ufeff{"a":1}',
        '{"a":1}\x00',
        '{"a"\u00a0:1}',
        "\u00a0{}",
        "{}\u2003",
        '{"a":1/**/}',
        '{"a":\v1}',
    ],
)
def test_what_is_no_json_object_is_refused(text: str) -> None:
    assert paths(text) == ["c"]


@pytest.mark.parametrize("text", ["{}", " \t\r\n{ \t\r\n} \t\r\n", '{ "a" : 1 , "b" : [ ] }\n'])
def test_space_may_stand_wherever_json_allows_it(text: str) -> None:
    assert [m.name for m in parse_object(text, "c")] == (["a", "b"] if "a" in text else [])


def test_a_member_keeps_its_text() -> None:
    first, second = parse_object('{ "\\u0061" :  [1 , 2.0] ,"b":1e2}', "c")
    assert (first.name, first.value, first.text, first.raw) == ("a", [1, 2.0], '"\\u0061":[1 , 2.0]', "[1 , 2.0]")
    assert (second.name, second.value, second.text, second.raw) == ("b", 100.0, '"b":1e2', "1e2")


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_what_python_reads_beyond_json_is_refused_with_its_path(literal: str) -> None:
    assert paths(f'{{"a":{{"b":[1,{literal}]}},"d":{literal}}}') == ["c.a.b[1]", "c.d"]


@pytest.mark.parametrize("literal", ["1e400", "-1e400", "1" * 400 + ".0", "1e" + "9" * 50, "9" * 309, "-" + "1" * 400])
def test_a_number_too_large_for_a_double_is_refused(literal: str) -> None:
    assert paths(f'{{"a":[{literal}]}}') == ["c.a[0]"]


@pytest.mark.parametrize(
    ("literal", "value"), [("1e-400", 0.0), ("1.7976931348623157e308", math.nextafter(math.inf, 0))]
)
def test_a_number_that_a_double_rounds_is_accepted(literal: str, value: float) -> None:
    assert parse_object(f'{{"a":{literal}}}', "c")[0].value == value


@pytest.mark.parametrize(
    ("literal", "large"), [("9" * 19, False), ("1" + "0" * 19, True), ("-" + "9" * 19, True), ("9" * 308, True)]
)
def test_an_integer_of_more_than_19_characters_is_kept_as_text(literal: str, *, large: bool) -> None:
    assert parse_object(f'{{"a":{literal}}}', "c")[0].value == (LargeInteger(literal) if large else int(literal))


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"a":"\\ud800"}', "c.a"),
        ('{"a":["\\udc00x"]}', "c.a[0]"),
        ('{"a":"\\udc00\\ud800"}', "c.a"),
        ('{"a":"\ud800"}', "c.a"),
        ('{"a":{"\\ud800":1}}', "c.a.\\ud800"),
        ('{"\udfff":1}', "c.\\udfff"),
    ],
)
def test_a_lone_surrogate_is_refused_escaped_or_not(text: str, path: str) -> None:
    assert paths(text) == [path]


@pytest.mark.parametrize("text", ['{"a":"\\ud83d\\ude00"}', '{"a":"\U0001f600"}', '{"a":"\\\\ud800"}'])
def test_a_pair_of_surrogates_is_accepted(text: str) -> None:
    assert parse_object(text, "c")[0].name == "a"


def test_each_of_several_duplicates_is_named_once() -> None:
    assert paths('{"b":1,"a":1,"b":2,"a":2,"b":3,"d":[{"e":1,"e":1}]}') == ["c.a", "c.b", "c.d[0].e"]


def test_a_refused_object_still_shows_its_members() -> None:
    with pytest.raises(StrictJsonError) as caught:
        parse_object('{"iss":1,"a":NaN}', "c")
    assert [m.name for m in caught.value.members] == ["iss", "a"]


def test_32_levels_are_accepted_and_33_refused() -> None:
    assert parse_object(nested(32), "c")
    assert paths(nested(33)) == ["c"]


def test_brackets_in_strings_and_side_by_side_are_no_depth() -> None:
    many = '{"a":"' + "[{" * 100 + '","b":[' + ",".join(["[]", "{}"] * 100) + '],"\\"[[[":"\\\\"}'
    assert depth(many) == 3
    assert len(parse_object(many, "c")) == 3


def test_64_kib_are_accepted_and_one_byte_more_refused() -> None:
    frame = '{"a":""}'
    for filler, size in (("x", 1), ("\u00fc", 2), ("\u20ac", 3)):
        fill = (MAX_BYTES - len(frame)) // size * filler
        rest = "x" * ((MAX_BYTES - len(frame)) % size)
        assert parse_object(f'{{"a":"{fill}{rest}"}}', "c")
        assert paths(f'{{"a":"{fill}{rest}x"}}') == ["c"]


HOSTILE = {
    "deep lists": "[" * MAX_BYTES,
    "deep objects": '{"a":' * (MAX_BYTES // 5),
    "quotes": '"' * MAX_BYTES,
    "quotes in an object": "{" + '"' * (MAX_BYTES - 1),
    "escaped quotes without an end": '{"a":[' + "[" * 40 + '"' + '\\"' * 32_000,
    "escaped quotes without an end in a name": '{"' + '\\"' * 32_000,
    "backslashes": '{"a":[' + "[" * 40 + '"' + "\\" * 65_000,
    "backslashes in a name": '{"' + "\\" * 65_000,
    "space": "{" + " " * 65_000,
    "space after a value": '{"a":1' + " " * 65_000,
    "space after the end": "{}" + " " * 65_000 + "x",
    "space before colons": '{"a"' + " " * 65_000 + "1",
    "digits": '{"a":' + "1" * 60_000,
    "digits of a fraction": '{"a":0.' + "1" * 60_000 + "x",
    "many members": "{" + ",".join(f'"{i}":1' for i in range(6000)),
    "an exponent": '{"a":1e' + "9" * 60_000 + "}",
    "many NaN": '{"a":[' + ",".join(["NaN"] * 16_000) + "]}",
    "duplicates": "{" + ",".join(['"a":1'] * 10_000) + "}",
    "surrogates": '{"a":[' + ",".join(['"\\ud800"'] * 7000) + "]}",
    "long paths": ('{"' + "k" * 66 + '":') * 28 + "[" + ",".join(["NaN"] * 15_000) + "]" + "}" * 28,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=list(HOSTILE))
def test_a_hostile_text_is_refused_soon_and_in_little_memory(text: str) -> None:
    assert len(text) <= MAX_BYTES
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(StrictJsonError) as caught:
        parse_object(text, "c")
    taken = time.process_time() - started
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 2  # a quadratic parser took ten seconds and more, without the tracing
    assert peak < 24 << 20
    assert len(caught.value.violations) <= MAX_VIOLATIONS


def test_numbers_of_60_000_digits_are_kept_or_refused_without_being_computed() -> None:
    for literal in ("1" * 60_000, "-" + "1" * 60_000, "0." + "1" * 60_000, "1" * 60_000 + "e-60000"):
        started = time.process_time()
        text = f'{{"a":{literal}}}'
        if literal.endswith("11") and "." not in literal:
            assert paths(text) == ["c.a"]
        else:
            assert parse_object(text, "c")[0].raw == literal
        assert time.process_time() - started < 1


def test_a_long_name_is_cut_in_paths() -> None:
    (path,) = paths('{"' + "n" * 1000 + '":NaN}')
    assert path == "c." + "n" * 64 + "…"


def test_a_name_in_a_path_cannot_break_a_line() -> None:
    assert paths('{"a\\nb\\u2028":NaN}') == ["c.a\\nb\\u2028"] * 2  # a line feed is refused too
