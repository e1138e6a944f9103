"""A store that cannot be used always raises the same error, in time."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from sealwright.keys.ports import Replica, StoreUnavailableError
from sealwright.sql.sqlite import SqliteDialect
from sealwright.sql.store import SqlStore

from .rows import LIMITS, NOW, engine_of, intent, issuer_state, key, opened, settings

BUSY = 0.3
Write = Callable[[SqlStore], Awaitable[object]]


async def _publish(store: SqlStore) -> object:
    return await store.publish(await issuer_state(store), [key(1)], [])


def _delete_all(directory: Path) -> None:
    for file in directory.iterdir():
        file.unlink()


WRITES: dict[str, Write] = {
    "publish": _publish,
    "heartbeat": lambda s: s.heartbeat(Replica(replica_id="a", revision=1, start_time=NOW, seen_time=NOW)),
    "counts": lambda s: s.add_token_counts({("kid", 10**9): 1}),
    "prune": lambda s: s.prune(replicas_seen_before=NOW, tokens_expired_before=0),
    "farewell": lambda s: s.farewell("a"),
    "issuer": lambda s: s.ensure_issuer("other", LIMITS),
}
READS: dict[str, Write] = {
    "read": lambda s: s.read(),
    "probe": lambda s: s.probe(),
    "replicas": lambda s: s.replicas(NOW),
    "live tokens": lambda s: s.live_tokens(["kid"], 0),
}


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be another process that writes for long."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


async def test_a_locked_store_is_waited_for_as_long_as_the_busy_timeout_but_not_by_reads(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path, busy_timeout=BUSY) as store:
        await issuer_state(store)
        with locked(path):
            began = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="locked"):
                await WRITES["heartbeat"](store)
            assert BUSY * 0.9 < time.monotonic() - began < BUSY + 1
            for read in READS.values():
                await read(store)
        await WRITES["heartbeat"](store)


async def test_a_store_that_is_locked_at_the_start_cannot_be_opened(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path):
        pass
    engine = engine_of(path, BUSY)
    store = SqlStore(engine, SqliteDialect())
    with locked(path), pytest.raises(StoreUnavailableError):
        await issuer_state(store)
    await store.aclose()


def test_two_that_make_one_store_at_the_same_time_wait_for_each_other(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("CREATE TABLE other (name)")
    other.execute("BEGIN IMMEDIATE")  # against which SQLite lets a switch to WAL fail at once
    threading.Timer(0.2, other.close).start()
    engine = engine_of(path)
    with engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
    engine.dispose()


@pytest.mark.parametrize("name", [n for n in WRITES if n != "publish"])
async def test_a_read_only_store_can_be_read_and_says_that_it_cannot_be_written(tmp_path: Path, name: str) -> None:
    async with opened(tmp_path / "state.db") as store:
        await issuer_state(store)
        store._engine.dispose()
        event.listen(store._engine, "connect", lambda c, _: c.execute("PRAGMA query_only = ON").close())
        with pytest.raises(StoreUnavailableError, match="readonly"):
            await WRITES[name](store)
        for read in READS.values():
            await read(store)


@pytest.mark.parametrize("name", [*WRITES, *READS])
async def test_a_store_whose_file_was_deleted_is_not_gone_on_with(tmp_path: Path, name: str) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as store:
        await issuer_state(store)
        _delete_all(tmp_path)
        with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
            await (WRITES | READS)[name](store)
    assert not path.exists(), "no empty store was left in its place"


async def test_a_store_whose_file_was_replaced_is_not_gone_on_with(tmp_path: Path) -> None:
    async with opened(tmp_path / "other.db") as other:
        await issuer_state(other)
    async with opened(tmp_path / "state.db") as store:
        await issuer_state(store)
        (tmp_path / "other.db").replace(tmp_path / "state.db")
        for use in (READS["probe"], WRITES["heartbeat"]):
            with pytest.raises(StoreUnavailableError, match="deleted or replaced"):
                await use(store)


async def test_a_full_disk_writes_nothing_and_is_over_when_there_is_room(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db") as store:
        await issuer_state(store)
        before = await store.read()
        store._engine.dispose()
        pages: list[int] = []

        @event.listens_for(store._engine, "connect")
        def _limit(connection: Any, _: object) -> None:
            (count,) = connection.execute("PRAGMA page_count").fetchone()
            pages.append(count)
            connection.execute(f"PRAGMA max_page_count = {count}")

        large = key(1, public_key=os.urandom(100_000))
        with pytest.raises(StoreUnavailableError, match="full"):
            await store.publish(before.issuers["payments"], [large], [])
        after = await store.read()
        assert (after.revision, after.issuers) == (before.revision, before.issuers)
        event.remove(store._engine, "connect", _limit)
        store._engine.dispose()
        assert await store.publish(after.issuers["payments"], [large], [])


@pytest.mark.parametrize("damage", ["header", "pages", "text"])
async def test_a_corrupt_store_cannot_be_opened(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as store:
        await store.add_intents(await issuer_state(store), [intent(n) for n in range(200)])
    content = bytearray(path.read_bytes())
    if damage == "header":
        content[:100] = bytes(100)
    elif damage == "pages":
        content[100:] = os.urandom(len(content) - 100)
    else:
        content[:] = b"this was never a database\n" * 100
    path.write_bytes(content)
    with pytest.raises(StoreUnavailableError):
        await SqlStore.open(settings(path))


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keys SET publish_time = 'yesterday'",
        "UPDATE keys SET publish_time = 9223372036854775807",
        "UPDATE issuers SET max_age = 'long'",
        "DELETE FROM issuers",
        "DELETE FROM deployment",
        "DROP TABLE intents",
    ],
)
async def test_what_cannot_be_understood_is_not_read(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as store:
        await store.publish(await issuer_state(store), [key(1)], [])
        with sqlite3.connect(path) as connection:
            connection.execute(statement)
        connection.close()
        with pytest.raises(StoreUnavailableError):
            await store.read()


@pytest.mark.parametrize("place", ["no/such/directory/state.db", "."])
async def test_a_path_where_no_file_can_be_created_is_reported(tmp_path: Path, place: str) -> None:
    with pytest.raises(StoreUnavailableError, match="unable to open database file"):
        await SqlStore.open(settings(tmp_path / place))


async def test_a_closed_store_is_unavailable_and_may_be_closed_again(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db") as store:
        await store.aclose()
        with pytest.raises(StoreUnavailableError):
            await store.probe()


async def test_a_writer_that_is_cancelled_leaves_a_store_that_works(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path, busy_timeout=BUSY) as store:
        await issuer_state(store)
        with locked(path):
            writing = asyncio.ensure_future(WRITES["heartbeat"](store))
            await asyncio.sleep(0.05)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        await WRITES["heartbeat"](store)
        assert len(await store.replicas(NOW)) == 1
