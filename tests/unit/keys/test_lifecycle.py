"""What the pure functions of `keys/lifecycle.py` say of single keys and short queues."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key, KeyState, Limits
from sealwright.keys.steps import (
    Create,
    Destroy,
    Disable,
    Retire,
    SeriesPolicy,
    SetReady,
    SetWithdraw,
    Step,
    apply_step,
    next_steps,
    rotation_time,
)

from .history import EPOCH, new_key, span

NOW = EPOCH + span(10_000)
LONG_AGO = EPOCH
TICK = timedelta(microseconds=1)
POLICY = SeriesPolicy(name="s0", rotation_period=span(100), min_lead=span(7), destroy_after=span(50))
LIMITS = Limits(
    max_staleness=span(900),
    max_age=span(300),
    stale_if_error=span(600),
    max_lifetime=span(3600),
    verifier_skew=span(60),
    max_serve_age=span(86400),
)


def key(kid: str, ordinal: int, series: str = "s0") -> Key:
    """Make a key that has been ready for long."""
    return replace(new_key(kid, series, ordinal, LONG_AGO), ready_time=LONG_AGO)


A, B, C = key("a", 1), key("b", 2), key("c", 3)


def test_lead_with_the_defaults_is_the_least_lead() -> None:
    assert LIMITS.lead(timedelta(hours=1)) == timedelta(hours=1)
    assert LIMITS.lead(timedelta()) == timedelta(minutes=15 + 2 * (5 + 10) + 1)


def test_tail_and_scheduled_wait_with_the_defaults() -> None:
    assert LIMITS.tail == timedelta(minutes=15 + 60 + 2)
    assert LIMITS.scheduled_wait == timedelta(hours=24, minutes=2 * (5 + 10) + 1)


def test_limits_are_only_raised() -> None:
    longer = replace(LIMITS, max_age=span(301), max_lifetime=span(1))
    assert LIMITS.raised_to(longer) == replace(LIMITS, max_age=span(301))
    assert longer.raised_to(LIMITS) == LIMITS.raised_to(longer)


@given(st.data())
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_raising_a_limit_shortens_nothing(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from([f.name for f in fields(Limits)]))
    raised = replace(LIMITS, **{name: getattr(LIMITS, name) + data.draw(st.timedeltas(timedelta(), timedelta(9)))})
    assert raised.lead(span(0)) >= LIMITS.lead(span(0))
    assert raised.tail >= LIMITS.tail
    assert raised.scheduled_wait >= LIMITS.scheduled_wait


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, KeyState.ACTIVE),
        ({"ready_time": None}, KeyState.STANDBY),
        ({"ready_time": NOW}, KeyState.ACTIVE),
        ({"ready_time": NOW + TICK}, KeyState.STANDBY),
        ({"retire_time": NOW}, KeyState.RETIRED),
        ({"retire_time": NOW, "withdraw_time": NOW + TICK}, KeyState.RETIRED),
        ({"retire_time": NOW, "withdraw_time": NOW}, KeyState.WITHDRAWN),
        ({"revoke_time": NOW}, KeyState.REVOKED),
        ({"retire_time": NOW, "withdraw_time": NOW, "revoke_time": NOW}, KeyState.REVOKED),
        ({"retire_time": NOW, "withdraw_time": NOW, "destroy_time": NOW}, KeyState.DESTROYED),
    ],
)
def test_state_is_derived_from_times(changes: dict[str, object], state: KeyState) -> None:
    it = replace(A, **changes)  # type: ignore[arg-type]
    assert lifecycle.state(it, [it], NOW) is state


def test_the_second_ready_key_stands_by() -> None:
    assert lifecycle.state(B, [B, A], NOW) is KeyState.STANDBY
    assert lifecycle.active([B, A], "s0", NOW) == A
    assert lifecycle.active([B, A], "s1", NOW) is None


def test_signers_are_in_order_of_series_then_queue() -> None:
    other = key("o", 1, "s1")
    unknown = key("u", 1, "gone from the configuration")
    keys = [unknown, other, B, A]
    assert lifecycle.signers(keys, NOW, ["s0", "s1"]) == [A, B, other]
    assert lifecycle.signers(keys, NOW, ["s1", "s0"]) == [other, A, B]


def test_signers_fail_over_to_what_is_ready() -> None:
    other = key("o", 1, "s1")
    young = replace(B, ready_time=NOW + TICK)
    assert lifecycle.signers([replace(A, revoke_time=NOW), young, other], NOW, ["s0", "s1"]) == [other]
    assert lifecycle.signers([replace(A, retire_time=NOW), B, other], NOW, ["s0", "s1"]) == [B, other]


def test_the_set_has_keys_that_do_not_sign_yet_or_any_more() -> None:
    young = replace(B, ready_time=None)
    old = replace(C, retire_time=LONG_AGO, withdraw_time=NOW + TICK)
    assert lifecycle.jwks([old, young, A], NOW) == [A, young, old]
    assert lifecycle.jwks([old, young, A], NOW + TICK) == [A, young]


@given(st.permutations([A, B, C, key("d", 1, "s1"), replace(key("e", 2, "s1"), revoke_time=NOW)]))
@settings(max_examples=25, deadline=None, derandomize=True, database=None)
def test_the_order_of_rows_changes_nothing(keys: list[Key]) -> None:
    assert [k.kid for k in lifecycle.jwks(keys, NOW)] == ["a", "b", "c", "d"]
    assert [k.kid for k in lifecycle.signers(keys, NOW, ["s1", "s0"])] == ["d", "a", "b", "c"]


def test_an_empty_series_asks_for_two_keys_and_open_intents_count() -> None:
    assert next_steps([], [POLICY], LIMITS, {}, NOW) == [Create("s0", 2)]
    assert next_steps([], [POLICY], LIMITS, {"s0": 1}, NOW) == [Create("s0", 1)]
    assert next_steps([], [POLICY], LIMITS, {"s0": 2}, NOW) == []
    assert next_steps([], [replace(POLICY, create=False)], LIMITS, {}, NOW) == []


def test_a_key_that_no_longer_queues_is_replaced() -> None:
    steps = next_steps([replace(A, revoke_time=NOW), B], [POLICY], LIMITS, {}, NOW)
    assert steps == [Create("s0", 1)]


def test_deadlines_are_due_as_soon_as_their_commit_is_seen() -> None:
    manual = replace(POLICY, rotation_period=None)
    retired, young = replace(A, retire_time=NOW), replace(C, ready_time=None)
    assert next_steps([retired, B, young], [manual], LIMITS, {}, NOW) == [
        SetWithdraw("a", LIMITS.tail, POLICY.destroy_after),
        SetReady("c", LIMITS.lead(POLICY.min_lead)),
    ]


def test_a_revoked_key_gets_no_deadline() -> None:
    gone = replace(A, retire_time=NOW, revoke_time=NOW)
    young = replace(B, ready_time=None, revoke_time=NOW)
    manual = replace(POLICY, create=False, rotation_period=None)
    assert next_steps([gone, young], [manual], LIMITS, {}, NOW) == []


def test_a_retired_key_is_withdrawn_even_if_its_series_left_the_configuration() -> None:
    assert next_steps([replace(A, retire_time=NOW)], [], LIMITS, {}, NOW) == [SetWithdraw("a", LIMITS.tail)]


def test_i12_a_key_is_disabled_when_it_leaves_the_set_and_deleted_at_its_own_deadline() -> None:
    quiet = replace(POLICY, create=False)
    out = replace(A, retire_time=LONG_AGO, withdraw_time=NOW, destroy_due_time=NOW + span(50))

    def due(key: Key, after: int, policy: SeriesPolicy = quiet) -> list[Step]:
        return next_steps([key], [policy], LIMITS, {}, NOW + span(after))

    assert next_steps([out], [quiet], LIMITS, {}, NOW - TICK) == []
    assert due(out, 0) == [Disable("a")]
    off = replace(out, disable_time=NOW)
    assert due(off, 0) == due(off, 49) == []
    assert due(off, 50) == [Destroy("a")]
    assert due(out, 50) == [Disable("a"), Destroy("a")], "a KMS that cannot disable keys does not delay their deletion"
    assert due(replace(off, destroy_time=NOW), 50) == []
    assert due(replace(out, revoke_time=NOW), 0) == [], "revoked keys are disabled elsewhere"


def test_i12_each_key_keeps_the_deadline_of_its_retirement_when_the_configuration_changes() -> None:
    retired = replace(A, retire_time=NOW)
    keeps = replace(POLICY, create=False, destroy_after=None)
    for after, due in ((span(50), NOW + LIMITS.tail + span(50)), (span(0), NOW + LIMITS.tail), (None, None)):
        (step,) = next_steps([retired], [replace(keeps, destroy_after=after)], LIMITS, {}, NOW)
        assert isinstance(step, SetWithdraw)
        assert apply_step(retired, step, NOW).destroy_due_time == due
    out = replace(A, retire_time=LONG_AGO, withdraw_time=LONG_AGO, disable_time=NOW, destroy_due_time=NOW)
    for after in (span(0), span(10**9)):
        assert next_steps([out], [replace(keeps, destroy_after=after)], LIMITS, {}, NOW) == [Destroy("a")]
        assert next_steps([out], [replace(keeps, destroy_after=after)], LIMITS, {}, NOW - TICK) == []
        never = replace(out, destroy_due_time=None)
        assert next_steps([never], [replace(keeps, destroy_after=after)], LIMITS, {}, NOW) == []
    assert next_steps([out], [keeps], LIMITS, {}, NOW) == [], "absent means never, at once"
    assert next_steps([out], [], LIMITS, {}, NOW) == [Destroy("a")], "the series has left the configuration"


def test_rotation_waits_for_the_longest_of_three() -> None:
    wait = LIMITS.scheduled_wait
    assert rotation_time([A, B], POLICY, LIMITS) == LONG_AGO + wait
    late = replace(B, ready_time=LONG_AGO + 2 * wait)
    assert rotation_time([A, late], POLICY, LIMITS) == LONG_AGO + 2 * wait + LIMITS.verifier_skew
    slow = replace(POLICY, rotation_period=3 * wait)
    assert rotation_time([A, late], slow, LIMITS) == LONG_AGO + 3 * wait


def test_rotation_is_not_planned_without_a_standby_that_will_be_ready_or_a_period() -> None:
    assert rotation_time([A], POLICY, LIMITS) is None
    assert rotation_time([A, replace(B, ready_time=None)], POLICY, LIMITS) is None
    assert rotation_time([replace(A, ready_time=None), B], POLICY, LIMITS) is None
    assert rotation_time([A, B], replace(POLICY, rotation_period=None), LIMITS) is None


def test_the_head_is_retired_when_it_is_due_and_not_before() -> None:
    due = rotation_time([A, B], POLICY, LIMITS)
    assert due is not None
    assert next_steps([B, A], [POLICY], LIMITS, {}, due) == [Retire("a")]
    assert next_steps([B, A], [POLICY], LIMITS, {}, due - TICK) == []


def test_a_period_starts_when_the_forerunner_stopped() -> None:
    stopped = LONG_AGO + span(500)
    assert lifecycle.active_since([replace(A, retire_time=stopped), B], B) == stopped
    assert lifecycle.active_since([replace(A, revoke_time=stopped), B], B) == stopped
    assert lifecycle.active_since([replace(A, retire_time=LONG_AGO - span(1)), B], B) == LONG_AGO


def test_revoking_a_key_long_after_it_retired_does_not_put_rotation_off() -> None:
    stopped = LONG_AGO + span(500)
    old = replace(A, retire_time=stopped, withdraw_time=stopped + LIMITS.tail, revoke_time=NOW)
    assert lifecycle.active_since([old, B], B) == stopped


def test_steps_write_their_own_times_only() -> None:
    young = replace(A, ready_time=None)
    assert apply_step(young, SetReady("a", span(5)), NOW) == replace(young, publish_time=NOW, ready_time=NOW + span(5))
    assert apply_step(A, Retire("a"), NOW) == replace(A, retire_time=NOW)
    assert apply_step(A, SetWithdraw("a", span(5)), NOW) == replace(A, withdraw_time=NOW + span(5))
    assert apply_step(A, Disable("a"), NOW) == replace(A, disable_time=NOW)
    assert apply_step(A, Destroy("a"), NOW) == replace(A, destroy_time=NOW)


def test_a_late_key_with_a_lower_place_takes_over_when_it_is_ready() -> None:
    """Hence places are given at publication: a takeover of this kind does not wait as a scheduled rotation does."""
    late = replace(A, ready_time=NOW)
    assert lifecycle.active([late, B], "s0", NOW - TICK) == B
    assert lifecycle.active([late, B], "s0", NOW) == late


def test_what_the_writers_do_does_not_depend_on_the_order_of_rows() -> None:
    keys = [replace(A, retire_time=NOW), B, replace(C, ready_time=None), key("d", 1, "s1"), key("e", 2, "s1")]
    policies = [POLICY, replace(POLICY, name="s1")]
    expected = sorted(map(repr, next_steps(keys, policies, LIMITS, {}, NOW)))
    rng = random.Random(1)  # noqa: S311 - nothing is secret here
    for _ in range(20):
        rng.shuffle(keys)
        assert sorted(map(repr, next_steps(keys, policies, LIMITS, {}, NOW))) == expected
