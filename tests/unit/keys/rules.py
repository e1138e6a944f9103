"""Rules that every history keeps, beside the promise to verifiers that `verifiers.py` judges."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import QUEUE_LENGTH, Key, KeyState

from .history import EPOCH, History, Rotation, Row, seconds, span

LATER = span(10**7)


def broken(history: History) -> Iterator[str]:
    """Yield what was broken, a line each."""
    yield from broken_rows(history)
    yield from (line for rotation in history.rotations for line in _keyless(history, rotation))


def broken_rows(history: History) -> Iterator[str]:
    """Yield what was broken in the store, whatever the clocks of replicas say."""
    gone: set[str] = set()
    before: dict[str, Key] = {}
    for row in history.rows:
        now = EPOCH + span(row.time)
        yield from _row(row, now)
        keys = {k.kid: k for k in row.keys}
        yield from _successor(before, keys)
        before = keys
        yield from (f"{kid} came back" for kid in gone if kid in keys and lifecycle.published(keys[kid], now))
        gone |= {k.kid for k in row.keys if not lifecycle.published(k, now)}
    for rotation in history.rotations:
        yield from _early(history, rotation)


def stranded(history: History) -> Iterator[str]:
    """Yield scheduled rotations after which a replica that may sign did not hold the next key for ready, as it read of them."""
    for rotation in history.rotations:
        for life in history.lives:
            read = next((r for r in life.reads if r.row.time >= rotation.time), None)
            if read is None:
                continue
            spans = life.spans(read.installed, read.installed + 1)
            able = next((begin for begin, end in spans if end > read.installed), None)
            heirs = [k for k in read.row.keys if k.kid == rotation.heir and lifecycle.queued(k)]
            if able is not None and any(not lifecycle.ready(k, life.clock(able)) for k in heirs):
                yield "scheduled rotation left a replica without a key"


def _row(row: Row, now: datetime) -> Iterator[str]:
    names = {k.series for k in row.keys} | set(row.intents)
    for name in names:
        if len(lifecycle.queue(row.keys, name)) + row.intents.get(name, 0) > QUEUE_LENGTH:
            yield f"queue of {name} too long"
        states = [lifecycle.state(k, row.keys, now) for k in row.keys if k.series == name]
        if states.count(KeyState.ACTIVE) > 1:
            yield f"two active keys in {name}"
    for moment in (now, now + LATER):
        served = lifecycle.jwks(row.keys, moment)
        if served != lifecycle.jwks(reversed(row.keys), moment):
            yield "set depends on the order of rows"
        if row.keys and not served and not any(k.revoke_time for k in row.keys):
            yield "empty set without a revocation"
        signing = lifecycle.signers(row.keys, moment, sorted(names))
        yield from (f"{k.kid} signs after its end" for k in signing if k.retire_time or k.revoke_time)
        yield from (f"{k.kid} signs unpublished" for k in signing if k not in served)


def _successor(before: dict[str, Key], after: dict[str, Key]) -> Iterator[str]:
    for kid, old in before.items():
        new = after.get(kid)
        if new is None:
            yield f"{kid} vanished"
            continue
        for name in ("retire_time", "withdraw_time", "revoke_time", "disable_time", "destroy_time"):
            if getattr(old, name) and getattr(old, name) != getattr(new, name):
                yield f"{name} of {kid} changed"


def _early(history: History, rotation: Rotation) -> Iterator[str]:
    limits = rotation.limits
    first = rotation.heir in history.first
    old_sets = seconds(limits.max_serve_age + 2 * (limits.max_age + limits.stale_if_error))
    if not first and rotation.time < history.visible[rotation.heir] + old_sets:
        yield "scheduled rotation before replicas that are cut off have fallen silent"


def _keyless(history: History, rotation: Rotation) -> Iterator[str]:
    row = history.rows[rotation.index]
    for life in history.lives:
        if lifecycle.active(row.keys, rotation.series, life.clock(rotation.time)) is None:
            yield "scheduled rotation left a replica without a key"
