"""The heart of the promises to verifiers, searched over random histories of the real module."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sealwright.keys import lifecycle, steps
from sealwright.keys.lifecycle import Key, KeyState
from sealwright.keys.steps import SeriesPolicy

from .mutants import MUTANTS, seeded, simulate
from .rules import broken
from .verifiers import gaps, play

EXAMPLES = int(os.environ.get("SEALWRIGHT_PROPERTY_EXAMPLES", "200"))
SEEDS = 2 * EXAMPLES
SEARCH = 200
"""Histories within which every mutant below must be caught."""

RARE = {
    # worst_cases.py constructs what chance meets in less than 1 of 50 histories
    "limits from the own file",
    "scheduled wait without K",
    "publish_time not stamped again",
    "freshness counted from the end of the read",
}

pytestmark = pytest.mark.timeout(60 + EXAMPLES)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
@given(st.randoms(use_true_random=False), st.integers(20, 250))
def test_every_released_token_verifies_until_it_expires(rng: Random, events: int) -> None:
    """Short histories, which Hypothesis bends and shrinks."""
    history, failures = simulate(rng, events=events)
    assert failures == []
    assert list(broken(history)) == []


def test_every_released_token_verifies_in_long_histories() -> None:
    """Long ones, with several rotations each; and enough of everything happens in them."""
    seen: Counter[str] = Counter()
    for seed in range(SEEDS):
        history, failures = seeded(seed)
        assert failures == [], seed
        assert list(broken(history)) == [], seed
        seen.update(history.seen)
    kinds = ("Retire", "rotation by hand", "crash", "lost race", "limits raised", "emergency")
    states = ("active", "standby", "retired", "withdrawn")
    few = {kind: seen[kind] for kind in (*kinds, *(f"revocation of {s}" for s in states)) if seen[kind] < SEEDS / 20}
    assert not few


@pytest.mark.parametrize("name", sorted(MUTANTS.keys() - RARE))
def test_a_broken_rule_is_found_out(name: str) -> None:
    """Without this a simulation that finds nothing would prove nothing."""
    for seed in range(SEARCH):
        history, failures = seeded(seed, MUTANTS[name])
        if failures:
            failure = failures[0]
            read = {k.kid: k for k in failure.gap.row.keys}
            served = set(read) - {g.kid for g in gaps(history) if g.row is failure.gap.row and _same(g, failure.gap)}
            assert play(failure, frozenset(served)), "a cache and a verifier that play by the RFCs must meet it too"
            return
    pytest.fail(f"not found in {SEARCH} histories")


def _same(one: object, other: object) -> bool:
    return all(getattr(one, n) == getattr(other, n) for n in ("begin", "end", "fresh_until"))


def _unsorted(keys: list[Key], _now: object) -> list[Key]:
    return [k for k in keys if not k.revoke_time]


def _anything_signs(key: Key, _now: object) -> bool:
    return key.ready_time is not None


def _never_in_the_set(key: Key, _now: object) -> bool:
    return key.retire_time is None and key.ready_time is None


def _comes_back(key: Key, _now: object) -> bool:
    return not key.revoke_time and (key.retire_time is None or key.withdraw_time is not None)


def _all_active(_key: Key, _keys: object, _now: object) -> KeyState:
    return KeyState.ACTIVE


def _as_soon_as_ready(keys: Sequence[Key], policy: SeriesPolicy, _limits: object) -> datetime | None:
    line = lifecycle.queue(keys, policy.name)
    return line[1].ready_time if len(line) > 1 else None


@pytest.mark.parametrize(
    ("function", "mutant", "found"),
    [
        ("jwks", _unsorted, "set depends on the order of rows"),
        ("ready", _anything_signs, "signs after its end"),
        ("published", _never_in_the_set, "empty set without a revocation"),
        ("published", _never_in_the_set, "signs unpublished"),
        ("published", _comes_back, "came back"),
        ("state", _all_active, "two active keys"),
        ("QUEUE_LENGTH", 3, "too long"),
        ("rotation_time", _as_soon_as_ready, "left a replica without a key"),
    ],
)
def test_a_broken_function_is_found_out(
    monkeypatch: pytest.MonkeyPatch, function: str, mutant: object, found: str
) -> None:
    monkeypatch.setattr(steps if hasattr(steps, function) else lifecycle, function, mutant)
    assert any(found in line for seed in range(30) for line in broken(seeded(seed)[0]))


@pytest.mark.parametrize("found", ["vanished", "retire_time", "withdraw_time", "came back"])
def test_writers_without_compare_and_swap_are_found_out(found: str) -> None:
    flaws = MUTANTS["no compare-and-swap"]
    assert any(found in line for seed in range(30) for line in broken(seeded(seed, flaws)[0]))


@pytest.mark.parametrize("name", ["scheduled wait without max_serve_age", "publish_time not stamped again"])
def test_a_hasty_schedule_is_found_out(name: str) -> None:
    lines = (line for seed in range(SEARCH) for line in broken(seeded(seed, MUTANTS[name])[0]))
    assert any("cut off" in line for line in lines)
