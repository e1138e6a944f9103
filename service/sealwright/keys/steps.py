"""The steps that keys take, as pure functions: which are due, and what each changes.

What a key may do is in `keys/lifecycle.py`. Like that module, this one reads no clock, does not wait and does no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import assert_never

from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPolicy:
    """What the configuration says about one series.

    Attributes:
        name: Name of the series, unique in its issuer.
        rotation_period: How long a key signs before it is rotated; None: it is rotated only by hand.
        min_lead: Shortest time from publication to first use, for verifiers that do not refetch on an unknown kid.
        destroy_after: Time from a withdrawal to the deletion in the KMS, of keys that are retired now; None: never, of any key.
        create: Whether rotation may create keys.
        verifier_refresh: How long a verifier may keep a set whatever it was told. The first keys of a new series wait for it.
        moved: The part of their time by which scheduled rotations of this series are moved.
    """

    name: str
    rotation_period: timedelta | None = None
    min_lead: timedelta = timedelta(hours=1)
    destroy_after: timedelta | None = None
    create: bool = True
    verifier_refresh: timedelta = timedelta()
    moved: float = 0.0


@dataclass(frozen=True, slots=True)
class Create:
    """The series has too few keys: record that many intents, then create the keys in the KMS."""

    series: str
    count: int


@dataclass(frozen=True, slots=True)
class SetReady:
    """The commit that published the key has been read: its lead counts from now."""

    kid: str
    lead: timedelta


@dataclass(frozen=True, slots=True)
class Retire:
    """The head's period is over and the standby is ready: the head stops signing."""

    kid: str


@dataclass(frozen=True, slots=True)
class SetWithdraw:
    """The commit that retired the key has been read: its tail counts from now, and what comes after it."""

    kid: str
    tail: timedelta
    destroy_after: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Disable:
    """The key has left the JWK Set, and its last token has expired: let the KMS refuse to sign with it."""

    kid: str


@dataclass(frozen=True, slots=True)
class Destroy:
    """The deadline that the key was given at its retirement has passed: schedule its deletion in the KMS."""

    kid: str


KeyStep = SetReady | Retire | SetWithdraw | Disable | Destroy
"""A step of one key: it writes one of the key's times."""

Step = Create | KeyStep


def rotation_time(keys: Sequence[Key], policy: SeriesPolicy, limits: Limits) -> datetime | None:
    """Return when the series is due for a scheduled rotation; None if no rotation is planned.

    The series is due when the head's period is over, but never before the standby is ready by every replica's clock (hence K: one
    whose clock is behind would have no key to sign with), and never before even replicas that are cut off (which serve an old set
    for `max_serve_age`) have stopped serving sets without it. The policy moves the first forward, and the others back.
    """
    line = lifecycle.queue(keys, policy.name)
    if policy.rotation_period is None or len(line) < lifecycle.QUEUE_LENGTH:
        return None
    head, standby, part = line[0], line[1], policy.moved
    if head.ready_time is None or standby.ready_time is None:
        return None
    period_over = lifecycle.active_since(keys, head) + policy.rotation_period * (1 - part)
    seen = max(standby.ready_time + limits.verifier_skew, standby.publish_time + limits.scheduled_wait)
    return max(period_over, seen + limits.scheduled_wait * part)


def emergency(keys: Iterable[Key], now: datetime, order: Sequence[str]) -> SetReady | None:
    """Return the step that makes a young standby ready at once after a revocation; None if a ready key is left.

    It belongs in the transaction of the revocation. Verifiers that do not have the key yet will refuse its first tokens.

    Args:
        keys: The keys of one issuer, after the revocation.
        now: The time of the writer.
        order: Names of the series that replace one another, in order of preference.
    """
    keys = list(keys)
    if lifecycle.signers(keys, now, order):
        return None
    young = next((k for name in order for k in lifecycle.queue(keys, name)), None)
    return None if young is None else SetReady(young.kid, timedelta())


def next_steps(
    keys: Sequence[Key],
    policies: Sequence[SeriesPolicy],
    limits: Limits,
    open_intents: Mapping[str, int],
    now: datetime,
) -> list[Step]:
    """Return the steps that are due for an issuer now.

    Each step is written in a transaction of its own, by compare-and-swap on the state that the steps were computed from, with a
    time that was read after that state. `SetReady` and `SetWithdraw` are due as soon as their commit has been read, so the
    deadline that they write can be late but never early, however long a writer sleeps.

    Args:
        keys: All keys of the issuer, from one read of the store.
        policies: The configured series of the issuer.
        limits: The issuer's limits, from the same read.
        open_intents: Keys on their way by series: recorded, but not yet published.
        now: A time that was read after the keys were.
    """
    steps: list[Step] = []
    leads = {p.name: _lead(keys, p, limits, now) for p in policies}
    after = {p.name: p.destroy_after for p in policies}
    for key in keys:
        if lifecycle.queued(key) and key.ready_time is None and key.series in leads:
            steps.append(SetReady(key.kid, leads[key.series]))
        if key.retire_time and not key.revoke_time and key.withdraw_time is None:
            steps.append(SetWithdraw(key.kid, limits.tail, after.get(key.series)))
        if key.withdraw_time and key.withdraw_time <= now and not key.destroy_time:
            if not (key.disable_time or key.revoke_time):
                steps.append(Disable(key.kid))
            if deletable(key, after) and key.destroy_due_time and key.destroy_due_time <= now:
                steps.append(Destroy(key.kid))
    for policy in policies:
        missing = lifecycle.QUEUE_LENGTH - len(lifecycle.queue(keys, policy.name)) - open_intents.get(policy.name, 0)
        if policy.create and missing > 0:
            steps.append(Create(policy.name, missing))
        due = rotation_time(keys, policy, limits)
        if due is not None and due <= now:
            steps.append(Retire(lifecycle.queue(keys, policy.name)[0].kid))
    return steps


def deletable(key: Key, destroy_after: Mapping[str, timedelta | None]) -> bool:
    """Return whether the configuration lets a key be deleted at its own deadline: its series is not set to keep all keys."""
    return key.destroy_due_time is not None and destroy_after.get(key.series, timedelta()) is not None


def _lead(keys: Sequence[Key], policy: SeriesPolicy, limits: Limits, now: datetime) -> timedelta:
    lead = limits.lead(policy.min_lead)
    return max(lead, limits.settling(policy.verifier_refresh)) if lifecycle.opens(keys, policy.name, now) else lead


def apply_step(key: Key, step: KeyStep, now: datetime) -> Key:
    """Return the key after a step that is about it, at the time of the writer."""
    match step:
        case SetReady(_, lead):
            return replace(key, publish_time=now, ready_time=now + lead)
        case Retire(_):
            return replace(key, retire_time=now)
        case SetWithdraw(_, tail, after):
            due = None if after is None else now + tail + after
            return replace(key, withdraw_time=now + tail, destroy_due_time=due)
        case Disable(_):
            return replace(key, disable_time=now)
        case Destroy(_):
            return replace(key, destroy_time=now)
        case _:
            assert_never(step)
