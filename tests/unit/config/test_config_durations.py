"""Durations."""

from __future__ import annotations

from datetime import time, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.times import parse_duration

from .samples import problems_with

UNITS = {
    "ms": timedelta(milliseconds=1),
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
}
LONGEST = timedelta(days=3650)


@given(number=st.integers(0, 10**9 - 1), unit=st.sampled_from(sorted(UNITS)))
def test_a_number_and_a_unit_are_a_duration_of_ten_years_at_the_most(number: int, unit: str) -> None:
    expected = number * UNITS[unit]
    if expected <= LONGEST:
        assert parse_duration(f"{number}{unit}") == expected
    else:
        with pytest.raises(ValueError, match="at most 3650d"):
            parse_duration(f"{number}{unit}")


BAD = [
    "",
    "1",
    "s",
    "-1s",
    "+1s",
    "1.5s",
    "1e3s",
    "1 s",
    " 1s",
    "1s ",
    "1s\n",
    "1S",
    "1w",
    "1y",
    "1M",
    "1h30m",
    "P1D",
    "٣d",
    "1000000000s",
]


@pytest.mark.parametrize("value", [*BAD, 10, 0, -1, 1.5, True, None, [], {}, time(10)])
def test_everything_else_is_not_a_duration(value: Any) -> None:
    (problem,) = problems_with("timing.max_staleness", value)
    assert problem == 'timing.max_staleness: must be a duration such as "30d", "12h", "10m", "1s" or "500ms"'


@given(st.text())
def test_a_text_is_a_duration_or_is_refused_as_none(text: str) -> None:
    try:
        duration = parse_duration(text)
    except ValueError as error:
        assert "duration" in str(error) or "at most" in str(error)  # noqa: PT017 - either is right
    else:
        assert timedelta() <= duration <= LONGEST


@pytest.mark.parametrize(
    "path",
    [
        "timing.max_clock_error",
        "timing.verifier_skew",
        "timing.max_staleness",
        "timing.max_serve_age",
        "timing.refresh_interval",
        "issuers.0.max_lifetime",
        "issuers.0.default_lifetime",
        "issuers.0.jwks.max_age",
        "issuers.0.series.0.rotation_period",
        "providers.aws-eu.timeout",
    ],
)
def test_what_a_promise_counts_on_is_longer_than_nothing(path: str) -> None:
    assert any(p.endswith(": must be greater than zero") for p in problems_with(path, "0s"))


@pytest.mark.parametrize("path", ["issuers.0.max_lifetime", "issuers.0.jwks.max_age", "issuers.0.jwks.stale_if_error"])
def test_what_goes_out_in_seconds_has_no_fraction(path: str) -> None:
    assert any(p.endswith(": must be whole seconds") for p in problems_with(path, "1500ms"))
    assert not any(p.endswith(": must be whole seconds") for p in problems_with(path, "3600000ms"))


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("timing.verifier_skew", "9999ms", "timing.verifier_skew: must be at least twice max_clock_error"),
        ("timing.max_clock_error", "30001ms", "timing.verifier_skew: must be at least twice max_clock_error"),
        ("timing.max_staleness", "1s", "timing.max_staleness: must be longer than refresh_interval"),
        ("timing.refresh_interval", "15m", "timing.max_staleness: must be longer than refresh_interval"),
        ("timing.max_serve_age", "899s", "timing.max_serve_age: must be at least max_staleness"),
        (
            "issuers.0.max_lifetime",
            "9m",
            "issuers[0].default_lifetime: must not be longer than max_lifetime (the default is 10m)",
        ),
    ],
)
def test_durations_that_would_break_a_promise_together_are_refused(path: str, value: str, problem: str) -> None:
    assert problems_with(path, value) == [problem]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("timing.verifier_skew", "10s"),
        ("timing.max_clock_error", "30s"),
        ("timing.max_staleness", "1001ms"),
        ("timing.max_serve_age", "15m"),
        ("issuers.0.max_lifetime", "10m"),
    ],
)
def test_durations_that_just_fit_together_are_taken(path: str, value: str) -> None:
    assert problems_with(path, value) == []
