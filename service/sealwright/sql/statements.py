"""The statements of the store that several of its transactions share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, delete, insert, select, update

from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.ports import ClockRecord, Intent, IssuerState, Replica, StoreState, StoreUnavailableError
from sealwright.keys.timekeeping import moved_clock, moved_intent, moved_key, moved_limits
from sealwright.sql.dialect import ANNOUNCEMENT
from sealwright.sql.tables import SCHEMA, blocked_providers, clocks, deployment, intents, issuers, keys, replicas
from sealwright.times import EPOCH

_LIMITS: Final = tuple(Limits.__dataclass_fields__)
NEXT_REVISION: Final = select(deployment.c.revision + 1).scalar_subquery()
"""What a transaction writes as the revision of the issuers that it changes: the revision of the store after it.

So a reader finds the issuers that have changed since a revision of the store, without a look at the others.
"""
MOVES: Final = "moves"
"""In place of a boot: the row of `clocks` that moves with all others, from the epoch. So it has the sum of all moves."""


def read_clocks(c: Connection) -> list[ClockRecord]:
    """Return what is known of clocks, first the row of all moves, which others lock before theirs."""
    return [ClockRecord(**row._mapping) for row in c.execute(select(clocks).order_by(clocks.c.boot_id != MOVES))]


def moves_of(records: Iterable[ClockRecord]) -> timedelta:
    """Return by how much all times have moved so far."""
    return next((r.zero - EPOCH for r in records if r.boot_id == MOVES), timedelta())


def read_issuers(c: Connection, since: int | None) -> dict[str, IssuerState]:
    """Return issuers with their keys and open intents.

    Args:
        c: A transaction in which every query sees the same moment of the database.
        since: Only those that have changed since this revision of the store; None: all.
    """
    heads, of_keys = select(issuers), select(keys).order_by(keys.c.issuer, keys.c.series, keys.c.ordinal)
    of_intents = select(intents).where(intents.c.close_time.is_(None))
    of_intents = of_intents.order_by(intents.c.create_time, intents.c.intent_id)
    if since is not None:
        heads = heads.where(issuers.c.revision > since)
    rows = list(c.execute(heads))
    if since is not None:
        if not rows:
            return {}
        changed = select(issuers.c.name).where(issuers.c.revision > since).scalar_subquery()
        of_keys, of_intents = of_keys.where(keys.c.issuer.in_(changed)), of_intents.where(intents.c.issuer.in_(changed))
    by_issuer: dict[str, tuple[list[Key], list[Intent]]] = {row.name: ([], []) for row in rows}
    for row in c.execute(of_keys):
        by_issuer[row.issuer][0].append(Key(**row._mapping))
    for row in c.execute(of_intents):
        by_issuer[row.issuer][1].append(Intent(**row._mapping))
    return {
        row.name: IssuerState(
            name=row.name,
            revision=row.revision,
            limits=limits_of(row),
            first_publish_time=row.first_publish_time,
            url=row.url,
            keys=tuple(by_issuer[row.name][0]),
            intents=tuple(by_issuer[row.name][1]),
        )
        for row in rows
    }


def lock_store(c: Connection) -> None:
    """Exclude all other transactions that do so, until this one ends. Readers do not wait.

    Each change ends with a new revision in this row. Taking it first gives all changes one order: none waits for another in a
    circle, and what a change has read still holds when it commits. On SQLite, BEGIN IMMEDIATE has locked the whole database.

    Raises:
        StoreUnavailableError: This version must not use the store any more.
    """
    require_usable(c.execute(select(deployment.c.oldest_schema).with_for_update()).scalar_one())


def require_usable(oldest_schema: str) -> None:
    """Check that this version may use a store.

    Raises:
        StoreUnavailableError: A newer version has changed the store in a way that this one does not understand.
    """
    if oldest_schema > SCHEMA:
        raise StoreUnavailableError(
            f"a newer version of Sealwright has changed the store (schema {oldest_schema}), and this version knows {SCHEMA}: "
            "run the newer version"
        )


def bump(c: Connection) -> None:
    """Count a write, and announce it to other processes if the database can do that."""
    c.execute(update(deployment).values(revision=deployment.c.revision + 1))
    announcement = c.get_execution_options().get(ANNOUNCEMENT)
    if announcement is not None:
        c.execute(announcement)


def remove_replicas(c: Connection, gone: Sequence[str], now: datetime) -> None:
    """Delete the rows of replicas, and give back what they have claimed."""
    c.execute(delete(replicas).where(replicas.c.replica_id.in_(gone)))
    claimed = intents.c.claimed_by.in_(gone) & intents.c.close_time.is_(None) & (intents.c.claim_expire_time > now)
    names = set(c.execute(select(intents.c.issuer).where(claimed)).scalars())
    if names:
        c.execute(update(intents).where(claimed).values(claim_expire_time=now))
        touch(c, names)


def touch(c: Connection, names: Collection[str]) -> None:
    """Count a write that changes issuers."""
    c.execute(update(issuers).where(issuers.c.name.in_(names)).values(revision=NEXT_REVISION))
    bump(c)


def block_provider(c: Connection, provider: str, state: StoreState) -> None:
    """Block a provider for new keys, if it is not blocked yet."""
    if provider not in state.blocked:
        c.execute(insert(blocked_providers).values(provider=provider, block_time=state.time))


def abandon_intents(c: Connection, provider: str, time: datetime) -> set[str]:
    """Abandon the intents of a provider whose keys are not published yet. Return their issuers."""
    # OptionalText: the column holds "" for None, so IS NULL would find nothing.
    awaited = intents.c.close_time.is_(None) & intents.c.abandon_time.is_(None) & (intents.c.kid == "")
    mine = awaited & (intents.c.provider == provider)
    names = set(c.execute(select(intents.c.issuer).where(mine)).scalars())
    c.execute(update(intents).where(mine).values(abandon_time=time))
    return names


def move_times(c: Connection, state: StoreState, jump: timedelta, now: datetime) -> None:
    """Move every time in the store by a jump of its clock.

    Args:
        c: A transaction.
        state: What was read in it.
        jump: By how much the clock was set.
        now: The time before that.
    """
    for issuer in state.issuers.values():
        change_keys(c, [moved_key(k, jump, now) for k in issuer.keys])
        first = None if issuer.first_publish_time is None else issuer.first_publish_time + jump
        row = {"first_publish_time": first, **limit_values(moved_limits(issuer.limits, jump))}
        c.execute(update(issuers).where(issuers.c.name == issuer.name).values(row))
        for intent in issuer.intents:
            change_intent(c, moved_intent(intent, jump))
    for old in c.execute(select(replicas)).all():
        times = {"start_time": old.start_time + jump, "seen_time": old.seen_time + jump}
        c.execute(update(replicas).where(replicas.c.replica_id == old.replica_id).values(times))
    for each in read_clocks(c):
        moved = moved_clock(each, jump, now)
        new = {"zero": moved.zero, "seen_time": moved.seen_time}
        c.execute(update(clocks).where(clocks.c.boot_id == each.boot_id).values(new))
    for provider, time in state.blocked.items():
        blocked = update(blocked_providers).where(blocked_providers.c.provider == provider)
        c.execute(blocked.values(block_time=time + jump))
    touch(c, state.issuers.keys())


def change_keys(c: Connection, changed: Sequence[Key]) -> None:
    """Write keys."""
    for key in changed:
        c.execute(update(keys).where(keys.c.kid == key.kid).values(values(key, keys)))


def change_intent(c: Connection, intent: Intent) -> None:
    """Write an intent."""
    c.execute(update(intents).where(intents.c.intent_id == intent.intent_id).values(values(intent, intents)))


def limits_of(row: Row[Any]) -> Limits:
    """Return the limits of an issuer's row."""
    return Limits(**{name: row._mapping[name] for name in _LIMITS})


def limit_values(limits: Limits) -> dict[str, Any]:
    """Return the columns of limits."""
    return {name: getattr(limits, name) for name in _LIMITS}


def values(item: Key | Intent | Replica, table: Table) -> dict[str, Any]:
    """Return a row. Each column has the name of an attribute of the item."""
    return {column.name: getattr(item, column.name) for column in table.c}
