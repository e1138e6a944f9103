from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sealwright.access.patterns import Pattern

SEGMENT = st.text(st.sampled_from("ab.+?[]()^$|\\\n-_: \u00e9"), max_size=3)
PATTERN = st.builds(
    lambda middle, last: "/".join([*middle, last]),
    st.lists(SEGMENT | st.just("*"), max_size=3),
    SEGMENT | st.sampled_from(["*", "**"]),
).filter(bool)
VALUE = st.lists(SEGMENT, min_size=1, max_size=5).map("/".join)


DOTS = {".", ".."}


def reference(pattern: list[str], value: list[str]) -> bool:
    """Match segment by segment, without regular expressions. Asterisks do not stand for dot segments, except for a `**` alone."""
    if pattern == ["**"]:
        return True
    for n, segment in enumerate(pattern):
        if n == len(value):
            return False
        if segment == "**":
            return DOTS.isdisjoint(value[n:])
        if value[n] in {"", *DOTS} if segment == "*" else value[n] != segment:
            return False
    return len(pattern) == len(value)


def matches(pattern: str, value: str) -> bool:
    return Pattern(pattern).matches(value)


@given(PATTERN, VALUE)
@example("a/**", "a")
@example("a/**", "a/")
@example("**", "")
@example("*", "")
@example("*", ".")
@example("a/**", "a/b/..")
@example("**", "..")
@example("../*", "../a")
@example("a", "a\n")
def test_a_pattern_means_what_a_walk_over_its_segments_means(pattern: str, value: str) -> None:
    assert matches(pattern, value) is reference(pattern.split("/"), value.split("/"))


@given(VALUE.filter(lambda v: v and "*" not in v))
def test_a_pattern_without_asterisks_matches_only_itself(value: str) -> None:
    assert matches(value, value)
    assert not matches(value, value + "x")
    assert not matches(value, "x" + value)
    assert not matches(value, value + "\n")


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("spiffe://example.org/ns/payments/sa/*", "spiffe://example.org/ns/payments/sa/signer", True),
        ("spiffe://example.org/ns/payments/sa/*", "spiffe://example.org/ns/payments/sa/", False),
        ("spiffe://example.org/ns/payments/sa/*", "spiffe://example.org/ns/payments/sa/a/b", False),
        ("spiffe://example.org/ns/*/sa/*", "spiffe://example.org/ns/a/sa/b", True),
        ("spiffe://example.org/**", "spiffe://example.org.evil/ns", False),
        ("https://api.example.com/**", "https://api.example.com/a/b?c", True),
        ("https://api.example.com/**", "https://api.example.com", False),
        ("https://api.example.com/**", "https://apiXexample.com/a", False),
        ("*", "payments", True),
        ("*", "a/b", False),
        ("**", "a/b\nc", True),
        ("payments", "Payments", False),
    ],
)
def test_asterisks_stand_for_a_segment_or_the_rest(pattern: str, value: str, *, expected: bool) -> None:
    assert matches(pattern, value) is expected


@pytest.mark.parametrize("pattern", ["*", "a", "a/**"])
def test_only_two_asterisks_match_an_absent_value(pattern: str) -> None:
    assert not Pattern(pattern).matches(None)
    assert Pattern("**").matches(None)


def test_a_pattern_is_its_text() -> None:
    assert Pattern("a/*") == Pattern("a/*") != Pattern("a/**")
    assert str(Pattern("a/*")) == "a/*"


@pytest.mark.parametrize("pattern", ["", "a*", "*a", "a/b*", "***", "a/***", "**a", "dns:*", "a/*b/c"])
def test_an_asterisk_must_be_a_whole_segment(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"segment|empty"):
        Pattern(pattern)


@pytest.mark.parametrize("pattern", ["**/a", "a/**/b", "**/**", "**/"])
def test_two_asterisks_stand_at_the_end_only(pattern: str) -> None:
    with pytest.raises(ValueError, match="at the end"):
        Pattern(pattern)
