"""Replicas' rows and the counts of their tokens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event

from sealwright.keys.ports import Replica
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore

from .rows import NOW, opened

DAY = timedelta(days=1)
LONG_AGO = NOW - 365 * DAY
MINUTES_A_DAY = 24 * 60


@pytest.fixture
async def store(database: StoreSettings) -> AsyncIterator[SqlStore]:
    async with opened(database) as one:
        yield one


def replica(name: str, seen: timedelta = timedelta(), revision: int = 1) -> Replica:
    return Replica(replica_id=name, revision=revision, start_time=NOW, seen_time=NOW + seen)


async def names(store: SqlStore) -> list[str]:
    return [r.replica_id for r in await store.replicas(LONG_AGO)]


async def test_a_replica_says_what_it_has_read(store: SqlStore) -> None:
    await store.heartbeat(replica("a"))
    await store.heartbeat(replica("b", timedelta(seconds=5), 3))
    await store.heartbeat(replica("a", timedelta(seconds=9), 7))
    assert list(await store.replicas(NOW)) == [
        replica("a", timedelta(seconds=9), 7),
        replica("b", timedelta(seconds=5), 3),
    ]
    assert list(await store.replicas(NOW + timedelta(seconds=6))) == [replica("a", timedelta(seconds=9), 7)]


async def test_a_replica_that_says_farewell_is_deleted(store: SqlStore) -> None:
    await store.heartbeat(replica("a"))
    await store.heartbeat(replica("b"))
    await store.farewell("a")
    await store.farewell("a")
    assert await names(store) == ["b"]


async def test_f21_a_replicas_row_stays_however_long_the_others_go_on(store: SqlStore) -> None:
    await store.heartbeat(replica("cut-off"))
    await store.heartbeat(replica("new", 365 * DAY))
    await store.add_token_counts({("a", minute(-365)): 1})
    assert await names(store) == ["cut-off", "new"]


async def test_only_prune_deletes_the_rows_of_replicas_that_crashed(store: SqlStore) -> None:
    for i in range(5):
        await store.heartbeat(replica(f"crashed-{i}", timedelta(seconds=i)))
    await store.heartbeat(replica("new", DAY))
    assert len(await names(store)) == 6
    await store.prune(replicas_seen_before=NOW + timedelta(seconds=4), tokens_expired_before=0)
    assert await names(store) == ["crashed-4", "new"]


async def test_a_replica_whose_row_was_deleted_returns_with_its_next_heartbeat(store: SqlStore) -> None:
    await store.heartbeat(replica("slow"))
    await store.prune(replicas_seen_before=NOW + DAY, tokens_expired_before=0)
    assert await names(store) == []
    await store.heartbeat(replica("slow", 2 * DAY))
    assert await names(store) == ["slow"]


def minute(days: float = 0) -> int:
    return int(time.time() // 60 + days * MINUTES_A_DAY)


async def test_tokens_are_counted_by_kid_and_minute_over_all_replicas(store: SqlStore) -> None:
    later = minute(1)
    await store.add_token_counts({("a", later): 3, ("a", later + 1): 5, ("b", later): 7})
    await store.add_token_counts({("a", later): 10})
    assert await store.live_tokens(["a"], later) == 18
    assert await store.live_tokens(["a", "b"], later) == 25
    assert await store.live_tokens(["a"], later + 1) == 5
    assert await store.live_tokens(["nobody"], later) == 0
    assert await store.live_tokens([], later) == 0
    await store.add_token_counts({})


async def test_only_prune_deletes_the_counts_of_expired_tokens(store: SqlStore) -> None:
    old = {("a", minute(-2) - i): 1 for i in range(30)}
    await store.add_token_counts(old)
    await store.add_token_counts({("a", minute(-0.9)): 1, ("a", minute(1)): 1})
    assert await store.live_tokens(["a"], minute()) == 1
    assert await store.live_tokens(["a"], minute(-3)) == 32
    await store.prune(replicas_seen_before=NOW, tokens_expired_before=minute(-1))
    assert await store.live_tokens(["a"], minute(-3)) == 2


async def test_f23_a_read_writes_nothing_and_does_not_wait_for_writers(store: SqlStore) -> None:
    await store.heartbeat(replica("a"))
    await store.add_token_counts({("a", minute(-9)): 1})
    statements: list[str] = []

    @event.listens_for(store._engine, "before_cursor_execute")
    def _note(*args: Any) -> None:
        statements.append(args[2])

    for read in (store.read(), store.probe(), store.replicas(NOW), store.live_tokens(["a"], minute())):
        statements.clear()
        await read
        if store._engine.name == "sqlite":  # psycopg sends its BEGIN itself
            assert statements.pop(0) == "BEGIN DEFERRED"
        assert {s.split()[0] for s in statements} == {"SELECT"}
