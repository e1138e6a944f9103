"""Each sum of limits is enough in its worst case, and no second of it is to spare."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright.keys.lifecycle import Limits

from .history import SOUND, Flaws, History, seconds, span
from .mutants import MUTANTS, Shortened
from .verifiers import failures
from .worst_cases import WORST, lead, own_file, schedule, slow_read, tail

ERROR = 5
LIMITS = Limits(
    max_staleness=span(900),
    max_age=span(300),
    stale_if_error=span(600),
    max_lifetime=span(3600),
    verifier_skew=span(2 * ERROR),
    max_serve_age=span(86400),
)

spans = st.integers(1, 500).map(span)
limits_of_all_sizes = st.builds(
    Limits,
    max_staleness=spans,
    max_age=spans,
    stale_if_error=st.integers(0, 500).map(span),
    max_lifetime=spans,
    verifier_skew=st.integers(1, 60).map(lambda n: span(2 * n)),
    max_serve_age=st.integers(1000, 5000).map(span),
)


def shorter(total: str, by: int, limits: Limits) -> Limits:
    values = {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
    return Shortened(**values, **{f"{total}_cut": span(by)})


def lost(history: History, flaws: Flaws = SOUND) -> bool:
    return any(True for _ in failures(history, flaws))


@pytest.mark.parametrize("total", WORST)
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
@given(limits=limits_of_all_sizes)
def test_the_worst_case_is_survived_and_is_tight(total: str, limits: Limits) -> None:
    error = seconds(limits.verifier_skew) // 2
    assert not lost(WORST[total](limits, error, SOUND))
    hasty = Flaws(law=partial(shorter, total, 1))
    assert lost(WORST[total](limits, error, hasty), hasty)


@pytest.mark.parametrize("name", [n for n in MUTANTS if " without " in n])
def test_every_term_is_needed(name: str) -> None:
    total = {"lead": lead, "tail": tail, "scheduled wait": schedule}[name.partition(" without ")[0]]
    assert not lost(total(LIMITS, ERROR, SOUND))
    assert lost(total(LIMITS, ERROR, MUTANTS[name]), MUTANTS[name])


@pytest.mark.parametrize(
    ("total", "name"),
    [
        (lead, "deadline written with its fact"),
        (tail, "deadline written with its fact"),
        (lead, "clock read before the store"),
        (tail, "clock read before the store"),
        (schedule, "publish_time not stamped again"),
    ],
)
def test_a_writer_that_sleeps_on_a_stamp_loses_tokens(total: type, name: str) -> None:
    """One second of sleep is enough, and a month of it does no harm where deadlines follow their commits."""
    assert not lost(total(LIMITS, ERROR, SOUND, asleep=30 * 86400))
    assert lost(total(LIMITS, ERROR, MUTANTS[name], asleep=1), MUTANTS[name])


@pytest.mark.parametrize(
    ("case", "name"),
    [
        (slow_read, "freshness counted from the end of the read"),
        (own_file, "limits from the own file"),
        (tail, "signs on a stale read"),
    ],
)
def test_a_replica_that_signs_too_long_loses_tokens(case: type, name: str) -> None:
    assert not lost(case(LIMITS, ERROR, SOUND))
    assert lost(case(LIMITS, ERROR, MUTANTS[name]), MUTANTS[name])


def test_clocks_that_are_wrong_by_more_than_half_of_K_lose_tokens() -> None:  # noqa: N802 - K is its name
    assert not lost(lead(LIMITS, ERROR, SOUND))
    assert lost(lead(LIMITS, ERROR + 1, SOUND))
    assert lost(tail(LIMITS, ERROR + 1, SOUND))


def test_a_replica_that_is_cut_off_is_safe_for_the_schedule_only() -> None:
    """A rotation by hand waits for the lead, not for replicas that have not read the store for longer than S."""
    history = lead(LIMITS, ERROR, SOUND)
    assert not lost(history)
    history.planned["b"] = 0
    assert lost(history)


@pytest.mark.parametrize(
    ("total", "cut"),
    [(lead, "stale_if_error"), (tail, "verifier_skew")],
)
def test_the_sums_of_the_first_design_lose_tokens(total: type, cut: str) -> None:
    """They were S + 2 A + E + K and S + L + K."""
    flaws = Flaws(law=partial(shorter, total.__name__, seconds(getattr(LIMITS, cut))))
    assert lost(total(LIMITS, ERROR, flaws), flaws)
    assert not lost(total(replace(LIMITS, **{cut: span(0)}), 0, SOUND))
