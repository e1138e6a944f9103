"""The worst history for each sum of limits, built on purpose: every clock, pause and cache at its extreme at once.

Chance meets these seldom. Here each term is tight: a sum that is one second shorter loses a token.
"""

from __future__ import annotations

from dataclasses import replace

from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.steps import Retire, SeriesPolicy, SetReady, SetWithdraw, apply_step, rotation_time

from .history import EPOCH, Flaws, History, Life, Read, Row, new_key, span

POLICY = SeriesPolicy(name="s0", rotation_period=span(1), min_lead=span(0))
AT = 1000
"""True time of the commit on which everything hangs."""


def _key(kid: str, ordinal: int, *, ready: bool) -> Key:
    now = EPOCH + span(0)
    return replace(new_key(kid, "s0", ordinal, now), ready_time=now if ready else None)


def _life(limits: Limits, error: int) -> Life:
    return Life(error, limits, [POLICY])


def _set_ready(key: Key, flaws: Flaws, limits: Limits, now: int, writer: Life) -> Key:
    lead = flaws.law(limits).lead(POLICY.min_lead)
    after = apply_step(key, SetReady(key.kid, lead), writer.clock(now))
    return replace(after, publish_time=key.publish_time) if flaws.keep_publish_time else after


def lead(limits: Limits, error: int, flaws: Flaws, asleep: int = 0) -> History:
    """A standby is published by a writer whose clock is late; a replica read just before; one whose clock is early signs.

    Args:
        limits: The limits.
        error: What clocks may be wrong by.
        flaws: What is broken.
        asleep: How long the writer sleeps between the stamp and the commit of the publication.
    """
    late, right, early = (_life(limits, e) for e in (-error, 0, error))
    head, standby = _key("a", 1, ready=True), _key("b", 2, ready=False)
    standby = replace(standby, publish_time=late.clock(AT - asleep))
    first = Row(0, (head,), {}, limits)
    if flaws.deadline_with_fact:
        standby = replace(standby, ready_time=standby.publish_time + flaws.law(limits).lead(POLICY.min_lead))
        second = Row(AT, (head, standby), {}, limits)
    else:
        standby = _set_ready(standby, flaws, limits, AT - (asleep if flaws.clock_before_read else 0), late)
        second = Row(AT, (head, standby), {}, limits)
    assert standby.ready_time is not None
    signs = max(AT, early.true(standby.ready_time))
    right.reads = [Read(AT, 0, first)]
    early.reads = [Read(signs, AT, second)]
    late.reads = [Read(AT, AT, second)]
    return History([first, second], [late, right, early], visible={"a": 0, "b": AT}, planned={"a": 0}, first={"a"})


def schedule(limits: Limits, error: int, flaws: Flaws, asleep: int = 0) -> History:
    """As `lead`, but the replica that read just before is cut off, and the schedule retires the head as soon as it may."""
    history = lead(limits, error, flaws, asleep)
    _, _, early = history.lives
    second = history.rows[-1]
    due = rotation_time(second.keys, POLICY, flaws.law(limits))
    assert due is not None
    now = early.true(due)
    retired = apply_step(second.keys[0], Retire("a"), due)
    third = Row(now, (retired, second.keys[1]), {}, limits)
    early.reads = [Read(now, now, third)]
    history.rows.append(third)
    history.planned["b"] = now
    return history


def tail(limits: Limits, error: int, flaws: Flaws, asleep: int = 0) -> History:
    """A head is retired; a replica that read just before signs to the last; one whose clock is early drops the key."""
    late, right, early = (_life(limits, e) for e in (-error, 0, error))
    head, standby = _key("a", 1, ready=True), _key("b", 2, ready=True)
    first = Row(0, (head, standby), {}, limits)
    retired = apply_step(head, Retire("a"), late.clock(AT - asleep))
    stamped = AT - (asleep if flaws.deadline_with_fact or flaws.clock_before_read else 0)
    withdrawn = apply_step(retired, SetWithdraw("a", flaws.law(limits).tail), late.clock(stamped))
    second = Row(AT, (withdrawn, standby), {}, limits)
    assert withdrawn.withdraw_time is not None
    dropped = max(AT, early.true(withdrawn.withdraw_time))
    right.reads = [Read(AT, 0, first)]
    late.reads = [Read(AT, AT, second)]
    early.reads = [Read(dropped + 1, AT, second)]
    kids = {"a": 0, "b": 0}
    return History([first, second], [late, right, early], visible=kids, planned=kids, first={"a", "b"})


def slow_read(limits: Limits, error: int, flaws: Flaws) -> History:
    """As `tail`, but the last read took a second to answer."""
    history = tail(limits, error, flaws)
    first = history.rows[0]
    history.lives[1].reads = [Read(AT, AT + 1, first)]
    return history


def own_file(limits: Limits, error: int, flaws: Flaws) -> History:
    """As `tail`, but the replica that signs was started with a longer lifetime in its file than the row has."""
    history = tail(limits, error, flaws)
    history.lives[1].config = replace(limits, max_lifetime=limits.max_lifetime + span(1))
    return history


WORST = {"lead": lead, "tail": tail, "wait": schedule}
