"""Verifiers that keep a set for a time of their own, whatever it says, and do not look again for an unknown kid (F63)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright.keys import lifecycle
from sealwright.keys.issuer import rotated_in
from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.steps import Retire, SeriesPolicy, SetReady, apply_step, next_steps, rotation_time

from .history import EPOCH, SOUND, History, Life, new_key, seconds, span
from .mutants import EVENTS, extreme_world
from .test_worst_cases import ERROR, LIMITS, limits_of_all_sizes
from .timeline import World
from .verifiers import INSTANT, Copy, Gap, SharedCache, Use, failures, surprises

AT = 100_000
"""True time of the commit that publishes the key."""
HOURS = 3600
EXAMPLES = 150
refreshes = st.integers(0, 20_000)


@dataclass(slots=True)
class Stubborn:
    """Reads the set every `refresh` seconds, and pays no heed to Cache-Control."""

    refresh: int
    copy: Copy | None = None

    def knows(self, kid: str, now: float, source: SharedCache | None, served: frozenset[str]) -> bool:
        """Tell whether a kid is in the set that it has, or reads now: from a cache, or from a replica if there is none."""
        if self.copy is None or now - self.copy.got >= self.refresh:
            answer = source.get(now) if source else None
            self.copy = answer or Copy(served, now, 0, 0)
        return kid in self.copy.kids


def met(published: int, signs: float, limits: Limits, refresh: int, *, cut_off: bool = False) -> bool:
    """Act out the worst case, and tell whether the verifier knows the key when its first token arrives.

    A replica that read the store just before the commit serves the old set for as long as it may. A shared cache reads it at the
    last moment, and the verifier reads that at the last moment.

    Args:
        published: When the key is in the store.
        signs: When its first token leaves.
        limits: The limits.
        refresh: How long the verifier keeps a set.
        cut_off: Whether the replica has lost the store, and serves for `max_serve_age`.
    """
    old, new = frozenset({"a"}), frozenset({"a", "b"})
    left = limits.max_serve_age if cut_off else limits.max_staleness
    fetched = published + seconds(left) - INSTANT
    cache = SharedCache(Copy(old, fetched, seconds(limits.max_age), seconds(limits.stale_if_error)))
    verifier = Stubborn(refresh)
    asked = fetched + seconds(limits.max_age + limits.stale_if_error) - INSTANT
    if asked >= signs:
        return False
    assert not verifier.knows("b", asked, cache, old)
    return verifier.knows("b", signs, None, new)


def opened(limits: Limits, error: int, policy: SeriesPolicy) -> tuple[Key, float]:
    """Publish the first key of a second series by a writer whose clock is late.

    Returns:
        The key, and when a replica whose clock is early signs with it.
    """
    late, early = Life(-error, limits, [policy]), Life(error, limits, [policy])
    head = replace(new_key("a", "s0", 1, EPOCH), ready_time=EPOCH)
    key = new_key("b", policy.name, 1, late.clock(AT))
    (step,) = [
        s
        for s in next_steps([head, key], [policy], limits, {policy.name: 1}, late.clock(AT))
        if isinstance(s, SetReady)
    ]
    after = apply_step(key, step, late.clock(AT))
    assert after.ready_time is not None
    return after, early.true(after.ready_time)


def seldom(seed: int, *, waits: bool) -> tuple[History, list[tuple[Use, Gap]]]:
    """Run a random history in which series are opened, and judge it by verifiers that look seldom.

    Args:
        seed: Of everything.
        waits: Whether new series wait for such verifiers.
    """
    rng = Random(seed)  # noqa: S311 - nothing is secret here
    refresh = rng.choice((1, 30, 200))
    world = extreme_world(rng)
    keep = span(refresh if waits else 0)
    opening = [
        SeriesPolicy(name=f"n{i}", rotation_period=span(1), min_lead=span(0), verifier_refresh=keep) for i in range(2)
    ]
    policies = [replace(p, verifier_refresh=keep) for p in world.policies]
    history = with_series(world, policies, opening).run(EVENTS)
    return history, list(surprises(history, SOUND, refresh))


def with_series(world: World, policies: list[SeriesPolicy], opening: list[SeriesPolicy]) -> World:
    """Return the same world with these series, to which an operator adds others."""
    return World(
        world.rng,
        world.limits,
        policies,
        world.max_clock_error,
        world.replicas,
        world.migrating,
        world.raising,
        opening=opening,
    )


def test_f63_no_history_surprises_such_verifiers_with_a_new_series() -> None:
    opened = 0
    for seed in range(EXAMPLES):
        history, found = seldom(seed, waits=True)
        assert found == [], seed
        assert list(failures(history, SOUND)) == [], seed
        opened += len(history.opened)
    assert opened > EXAMPLES / 10, "the simulation is idle"


def test_f63_the_simulation_notices_a_series_that_does_not_wait() -> None:
    assert any(seldom(seed, waits=False)[1] for seed in range(EXAMPLES))


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(limits=limits_of_all_sizes, refresh=refreshes)
def test_f63_the_first_key_of_a_new_series_signs_when_such_verifiers_have_it(limits: Limits, refresh: int) -> None:
    policy = SeriesPolicy(name="s1", min_lead=span(0), verifier_refresh=span(refresh))
    _, signs = opened(limits, seconds(limits.verifier_skew) // 2, policy)
    assert met(AT, signs, limits, refresh)


def test_f63_without_waiting_for_it_such_verifiers_refuse_the_first_token() -> None:
    _, signs = opened(LIMITS, ERROR, SeriesPolicy(name="s1"))
    assert not met(AT, signs, LIMITS, 12 * HOURS)


@pytest.mark.parametrize("cut", ["max_staleness", "max_age", "stale_if_error", "verifier_skew"])
def test_f63_every_term_of_the_wait_is_needed(cut: str) -> None:
    policy = SeriesPolicy(name="s1", min_lead=span(0), verifier_refresh=span(12 * HOURS))
    _, signs = opened(LIMITS, ERROR, policy)
    assert met(AT, signs, LIMITS, 12 * HOURS)
    assert not met(AT, signs - seconds(getattr(LIMITS, cut)), LIMITS, 12 * HOURS)


def test_f63_a_scheduled_rotation_waits_long_enough_anyway() -> None:
    policy = SeriesPolicy(name="s0", rotation_period=span(1), min_lead=span(0))
    head = replace(new_key("a", "s0", 1, EPOCH), ready_time=EPOCH)
    standby = new_key("b", "s0", 2, EPOCH + span(AT))
    standby = apply_step(standby, SetReady("b", LIMITS.lead(span(0))), EPOCH + span(AT))
    due = rotation_time([head, standby], policy, LIMITS)
    assert due is not None
    assert met(AT, seconds(due - EPOCH) - 2 * ERROR, LIMITS, 12 * HOURS)


def test_f63_a_series_is_new_until_one_of_its_keys_has_been_ready() -> None:
    def at(time: int) -> datetime:
        return EPOCH + span(time)

    head = replace(new_key("a", "s0", 1, at(0)), ready_time=at(0))
    key = new_key("b", "s1", 1, at(0))
    assert lifecycle.opens([head, key], "s1", at(1))
    assert not lifecycle.opens([key], "s1", at(1)), "nobody has a set yet"
    ready = replace(key, ready_time=at(10))
    assert lifecycle.opens([head, ready], "s1", at(9))
    assert not lifecycle.opens([head, ready], "s1", at(10))
    revoked = replace(ready, revoke_time=at(20))
    assert not lifecycle.opens([head, revoked, new_key("c", "s1", 2, at(20))], "s1", at(21))


def test_f63_a_head_was_rotated_in_only_if_its_predecessor_was_retired() -> None:
    first, second = new_key("a", "s0", 1, EPOCH), new_key("b", "s0", 2, EPOCH)
    retired = apply_step(first, Retire("a"), EPOCH + span(5))
    assert rotated_in([retired, second], second)
    assert rotated_in([replace(retired, revoke_time=EPOCH + span(6)), second], second)
    assert not rotated_in([replace(first, revoke_time=EPOCH + span(6)), second], second)
    assert not rotated_in([first], first)
