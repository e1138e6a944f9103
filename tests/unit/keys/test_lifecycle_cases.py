"""Cases from public bug reports that the arithmetic of `keys/lifecycle.py` answers."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key
from sealwright.keys.steps import (
    Retire,
    SeriesPolicy,
    SetReady,
    SetWithdraw,
    apply_step,
    emergency,
    next_steps,
    rotation_time,
)
from support.limits import LIMITS as DEFAULTS

from .history import EPOCH, new_key, span

SECOND = span(1)
ORDER = ["s0"]
POLICY = SeriesPolicy(name="s0", rotation_period=timedelta(days=30))
LIMITS = replace(DEFAULTS, max_lifetime=timedelta(hours=24))


def first_set(now: datetime = EPOCH) -> list[Key]:
    return [replace(new_key(kid, "s0", n, now), ready_time=now) for n, kid in enumerate("ab", 1)]


def kids(keys: list[Key]) -> list[str]:
    return [k.kid for k in keys]


def step_of(keys: list[Key], now: datetime, kind: type) -> SetReady | Retire | SetWithdraw:
    """Return the one step of a kind that is due."""
    (step,) = [s for s in next_steps(keys, [POLICY], LIMITS, {}, now) if isinstance(s, kind)]
    assert isinstance(step, SetReady | Retire | SetWithdraw)
    return step


def test_c78_a_key_has_no_end_that_could_shorten_its_tokens() -> None:
    """A token's lifetime is the caller's up to L, to the last second before retirement; the tail bears it, not the `exp`."""
    head, standby = first_set()
    retired = EPOCH + timedelta(days=30)
    assert lifecycle.signers([head, standby], retired - SECOND, ORDER)[0] == head
    head = apply_step(head, Retire("a"), retired)
    head = apply_step(head, SetWithdraw("a", LIMITS.tail), retired)
    last_exp = retired - SECOND + LIMITS.max_lifetime
    assert head in lifecycle.jwks([head, standby], last_exp)
    assert lifecycle.signers([head, standby], retired, ORDER) == [standby]


def test_c78_no_ready_key_is_an_answer_and_not_a_token() -> None:
    assert lifecycle.signers([replace(k, retire_time=EPOCH) for k in first_set()], EPOCH, ORDER) == []


@given(age=st.integers(0, 10**6).map(span), min_lead=st.integers(0, 10**6).map(span))
@settings(max_examples=50, deadline=None, derandomize=True, database=None)
def test_c89_max_age_is_shorter_than_the_lead(age: timedelta, min_lead: timedelta) -> None:
    limits = replace(LIMITS, max_age=age)
    assert limits.max_age < limits.lead(min_lead)


@pytest.mark.parametrize("min_lead", [timedelta(), timedelta(hours=1), timedelta(days=1)])
def test_c100_no_signature_before_every_cache_must_have_the_key(min_lead: timedelta) -> None:
    """Rotated at t0 with verifiers that cache for 20 minutes and never fetch for an unknown kid."""
    head, old = first_set()
    old = replace(old, retire_time=EPOCH)
    young = new_key("c", "s0", 3, EPOCH)
    t0 = EPOCH + timedelta(days=1)
    limits = replace(LIMITS, max_age=timedelta(minutes=20))
    steps = next_steps([head, old, young], [replace(POLICY, min_lead=min_lead)], limits, {}, t0)
    step = next(s for s in steps if isinstance(s, SetReady))
    young = apply_step(young, step, t0)
    assert young in lifecycle.jwks([head, young], t0)
    wait = max(min_lead, limits.lead(timedelta()))
    assert wait > timedelta(minutes=20)
    assert young not in lifecycle.signers([head, young], t0 + wait - SECOND, ORDER)
    assert lifecycle.signers([head, young], t0 + wait, ORDER) == [head, young]


def test_c100_only_the_very_first_set_is_ready_at_once() -> None:
    head, standby = first_set()
    assert lifecycle.signers([head, standby], EPOCH, ORDER) == [head, standby]
    young = new_key("c", "s0", 3, EPOCH)
    assert not lifecycle.ready(young, EPOCH + timedelta(days=999))


def test_c101_a_key_stays_in_the_set_until_its_last_token_has_expired() -> None:
    """Lifetime 24 h, retired after 1 h."""
    head, standby = first_set()
    retired = EPOCH + timedelta(hours=1)
    keys = [apply_step(head, Retire("a"), retired), standby]
    seen = retired + timedelta(days=3)
    assert kids(lifecycle.jwks(keys, seen)) == ["a", "b"], "however late a writer comes to it"
    keys[0] = apply_step(keys[0], step_of(keys, seen, SetWithdraw), seen)
    last_exp = seen + LIMITS.max_staleness + LIMITS.max_lifetime
    assert kids(lifecycle.jwks(keys, last_exp - SECOND)) == ["a", "b"]
    gone = last_exp + 2 * LIMITS.verifier_skew
    assert kids(lifecycle.jwks(keys, gone - SECOND)) == ["a", "b"]
    assert kids(lifecycle.jwks(keys, gone)) == ["b"]


def test_c102_two_rotators_that_read_the_same_want_the_same() -> None:
    """So one compare-and-swap is enough, and the loser finds nothing left to do but to go on."""
    head, standby = first_set()
    due = rotation_time([head, standby], POLICY, LIMITS)
    assert due is not None
    wanted = {tuple(next_steps(list(keys), [POLICY], LIMITS, {}, due)) for keys in permutations([head, standby])}
    assert wanted == {(Retire("a"),)}
    after = [apply_step(head, Retire("a"), due), standby]
    assert not [s for s in next_steps(after, [POLICY], LIMITS, {}, due) if isinstance(s, Retire)]


def test_c102_no_kid_that_ever_signed_disappears_when_another_is_retired() -> None:
    keys = first_set()
    now = EPOCH
    for n in range(3, 13):
        young = apply_step(new_key(f"k{n}", "s0", n, now), SetReady(f"k{n}", span(0)), now)
        head = lifecycle.queue(keys, "s0")[0]
        before = lifecycle.jwks(keys, now)
        keys = [apply_step(k, Retire(k.kid), now) if k == head else k for k in keys] + [young]
        assert set(kids(before)) < set(kids(lifecycle.jwks(keys, now)))


def test_c103_revocation_removes_the_key_and_the_standby_signs() -> None:
    head, standby = first_set()
    now = EPOCH + timedelta(days=1)
    keys = [replace(head, revoke_time=now), standby]
    assert lifecycle.jwks(keys, now) == [standby]
    assert lifecycle.signers(keys, now, ORDER) == [standby]
    assert standby.publish_time < now
    assert emergency(keys, now, ORDER) is None


def test_c103_a_young_standby_is_made_ready_where_no_other_key_is() -> None:
    head, _ = first_set()
    now = EPOCH + timedelta(days=1)
    young = new_key("c", "s0", 3, now)
    waiting = apply_step(young, SetReady("c", LIMITS.lead(POLICY.min_lead)), now)
    for standby in (young, waiting):
        keys = [replace(head, revoke_time=now), standby]
        step = emergency(keys, now, ORDER)
        assert step == SetReady("c", timedelta())
        keys[1] = apply_step(standby, step, now)
        assert lifecycle.signers(keys, now, ORDER) == [keys[1]]


def test_c103_a_ready_key_of_another_series_goes_before_a_young_standby() -> None:
    head, _ = first_set()
    now = EPOCH + timedelta(days=1)
    young = new_key("c", "s0", 3, now)
    other = replace(new_key("o", "s1", 1, EPOCH), ready_time=EPOCH)
    keys = [replace(head, revoke_time=now), young, other]
    assert emergency(keys, now, ["s0", "s1"]) is None
    assert emergency(keys, now, ["s0"]) == SetReady("c", timedelta()), "series of another algorithm do not count"


def test_c103_with_no_key_left_there_is_none_to_hurry_and_the_set_is_empty() -> None:
    gone = [replace(k, revoke_time=EPOCH) for k in first_set()]
    assert emergency(gone, EPOCH, ORDER) is None
    assert lifecycle.jwks(gone, EPOCH) == []


def test_c106_a_rotation_does_not_change_the_set() -> None:
    """Nobody needs to fetch at that instant: the new key has been there for long, and the old one stays."""
    head, standby = first_set()
    due = rotation_time([head, standby], POLICY, LIMITS)
    assert due is not None
    before = lifecycle.jwks([head, standby], due)
    after = lifecycle.jwks([apply_step(head, Retire("a"), due), standby], due)
    assert kids(before) == kids(after)
