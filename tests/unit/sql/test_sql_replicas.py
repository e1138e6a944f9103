"""Replicas' rows and the counts of their tokens."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from sealwright.keys.ports import Replica
from sealwright.sql.store import SqlStore

from .rows import NOW, opened

DAY = timedelta(days=1)
LONG_AGO = NOW - 365 * DAY
MINUTES_A_DAY = 24 * 60


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStore]:
    async with opened(tmp_path / "state.db") as one:
        yield one


def replica(name: str, seen: timedelta = timedelta(), revision: int = 1) -> Replica:
    return Replica(replica_id=name, revision=revision, seen_time=NOW + seen)


async def names(store: SqlStore) -> list[str]:
    return [r.replica_id for r in await store.replicas(LONG_AGO)]


async def test_a_replica_says_what_it_has_read(store: SqlStore) -> None:
    await store.heartbeat(replica("a"), NOW)
    await store.heartbeat(replica("b", timedelta(seconds=5), 3), NOW)
    await store.heartbeat(replica("a", timedelta(seconds=9), 7), NOW)
    assert list(await store.replicas(NOW)) == [
        replica("a", timedelta(seconds=9), 7),
        replica("b", timedelta(seconds=5), 3),
    ]
    assert list(await store.replicas(NOW + timedelta(seconds=6))) == [replica("a", timedelta(seconds=9), 7)]


async def test_a_replica_that_says_farewell_is_gone(store: SqlStore) -> None:
    await store.heartbeat(replica("a"), NOW)
    await store.heartbeat(replica("b"), NOW)
    await store.farewell("a")
    await store.farewell("a")
    assert await names(store) == ["b"]


async def test_rows_of_replicas_that_crashed_do_not_pile_up(store: SqlStore) -> None:
    for i in range(5):
        await store.heartbeat(replica(f"crashed-{i}", timedelta(seconds=i)), NOW)
    await store.heartbeat(replica("new", DAY), NOW)
    assert len(await names(store)) == 6, "for a day they may still matter"
    await store.heartbeat(replica("new", DAY + timedelta(seconds=4)), NOW)
    assert await names(store) == ["crashed-4", "new"]


async def test_a_replica_that_was_dropped_comes_back_with_its_next_heartbeat(store: SqlStore) -> None:
    await store.heartbeat(replica("slow"), NOW)
    await store.heartbeat(replica("new", 2 * DAY), NOW)
    assert await names(store) == ["new"]
    await store.heartbeat(replica("slow", 2 * DAY), NOW)
    assert await names(store) == ["new", "slow"]


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


async def test_counts_of_tokens_that_have_expired_do_not_pile_up(store: SqlStore) -> None:
    old = {("a", minute(-2) - i): 1 for i in range(30)}
    recent = {("a", minute(-0.9)): 1, ("a", minute(1)): 1}
    await store.add_token_counts(old)
    assert await store.live_tokens(["a"], minute(-3)) == 30
    await store.add_token_counts(recent)
    assert await store.live_tokens(["a"], minute(-3)) == 2
