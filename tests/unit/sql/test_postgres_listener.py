"""I12: LISTEN and NOTIFY: every change of the store is announced, and a listener that misses something says that it may have."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest

from sealwright.keys.ports import ClockRecord, Replica
from sealwright.sql import postgres_listener
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright_testing.postgres import PostgresServer
from support.databases import postgres_server
from support.processes import pause
from support.waiting import eventually, until

from .hearing import listening
from .rows import LIMITS, NOW, intent, issuer_state, key, opened, settings
from .test_postgres_network import pgbouncer

LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN sealwright'"
SESSION = "SELECT pid FROM pg_stat_activity WHERE application_name = 'sealwright'"
KILL = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"


async def _with_issuer(store: SqlStore, work: Callable[..., Awaitable[bool]]) -> None:
    assert await work((await store.read()).issuers["payments"])


async def _moved(store: SqlStore) -> None:
    clock = ClockRecord(boot_id="a", zero=NOW, seen_time=NOW)
    assert await store.settle_clock(await store.read(), timedelta(hours=1), clock)


async def _lost(store: SqlStore) -> None:
    before = (await store.read()).issuers["payments"]
    assert not await store.change_keys(type(before)(name="payments", revision=-1, limits=before.limits), [])


CHANGES: dict[str, Callable[[SqlStore], Awaitable[object]]] = {
    "a new issuer": lambda s: s.ensure_issuer("other", LIMITS),
    "an intent": lambda s: _with_issuer(s, lambda i: s.add_intents(i, [intent(9)])),
    "a key": lambda s: _with_issuer(s, lambda i: s.publish(i, [key(9)], [])),
    "a revocation": lambda s: s.revoke_all("gcp", lambda _: []),
    "an unblocked provider": lambda s: s.unblock("aws"),
    "a claim that is given back": lambda s: s.farewell("replica-1", NOW),
    "a clock that was set": _moved,
}
NO_CHANGES: dict[str, Callable[[SqlStore], Awaitable[object]]] = {
    "a heartbeat": lambda s: s.heartbeat(Replica(replica_id="a", revision=1, start_time=NOW, seen_time=NOW)),
    "token counts": lambda s: s.add_token_counts({("kid", 1): 1}),
    "an issuer as before": lambda s: s.ensure_issuer("payments", LIMITS),
    "a lost race": _lost,
    "a read": lambda s: s.read(),
}


async def _prepare(store: SqlStore) -> None:
    assert await store.add_intents(await issuer_state(store), [intent(1, claim_expire_time=NOW + timedelta(hours=1))])
    await store.revoke_all("aws", lambda _: [])


async def test_i12_each_change_is_announced_once_and_nothing_else_is(postgresql: StoreSettings) -> None:
    async with opened(postgresql) as store, listening(postgresql) as heard:
        await _prepare(store)
        for work in NO_CHANGES.values():
            await work(store)
        await heard.more_than(3)  # the start, the issuer, the intent, the revocation
        for count, (name, change) in enumerate(CHANGES.items(), 4):
            assert heard.times == count, f"before {name}"
            for quiet in NO_CHANGES.values():
                await quiet(store)
            await change(store)
            await heard.more_than(count)


async def test_i12_a_change_that_was_undone_is_not_announced(postgresql: StoreSettings) -> None:
    async with opened(postgresql) as store, listening(postgresql) as heard:
        await store.ensure_issuer("payments", LIMITS)
        with pytest.raises(Exception, match="in the middle"):
            await store._swap((await store.read()).issuers["payments"], _fail)
        await store.ensure_issuer("other", LIMITS)
        await heard.more_than(2)
        assert heard.times == 3


def _fail(_: object) -> None:
    raise ArithmeticError("in the middle")


async def test_i12_a_listener_whose_connection_died_says_that_it_may_have_missed_something(
    postgresql: StoreSettings, server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with opened(postgresql) as store, listening(postgresql) as heard:
        for _ in range(3):
            before = heard.times
            assert int(server.execute(KILL)) == 1
            await heard.more_than(before)  # the next connection
            before = heard.times
            await store.ensure_issuer(f"after-{before}", LIMITS)
            await heard.more_than(before)
    assert [r.levelname for r in caplog.records if "at once again" in r.message] == ["INFO"] * 3
    assert [r.levelname for r in caplog.records if "refresh_interval only" in r.message] == ["WARNING"] * 3


async def test_i12_a_database_that_is_down_is_said_once_and_listened_to_again(
    postgresql: StoreSettings, server: PostgresServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_listener, "_LONGEST_PAUSE", 0.05)
    async with listening(postgresql) as heard:
        before = heard.times
        server.stop()
        try:
            await asyncio.sleep(0.5)
            assert heard.times == before
        finally:
            server.start()
        await heard.more_than(before)
    assert len([r for r in caplog.records if "refresh_interval only" in r.message]) == 1


async def test_i12_a_database_that_does_not_answer_is_left(
    postgresql: StoreSettings, server: PostgresServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process behind the connection hangs, as on a machine that was frozen. Another one answers."""
    monkeypatch.setattr(postgres_listener, "_CHECK", 0.2)
    monkeypatch.setattr(postgres_listener, "ANSWER_TIMEOUT", 1.0)
    async with listening(postgresql) as heard:
        before, pid = heard.times, int(server.execute(SESSION))
        pause(pid)
        try:
            await heard.more_than(before)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert [r for r in caplog.records if "refresh_interval only: the database does not answer" in r.message]


async def test_i12_behind_a_pooler_nothing_is_listened_to_and_no_session_of_others_is_changed(
    postgresql: StoreSettings, server: PostgresServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_listener, "_POOLER_PAUSE", 0.05)
    with pgbouncer(server) as directory:
        through = StoreSettings(url=f"postgresql://postgres@/postgres?host={directory}&port=6432")
        async with listening(through, at_once=False) as heard:
            await until(lambda: "pooler" in caplog.text)
            await asyncio.sleep(0.3)
            assert heard.times == 0
            assert int(server.execute(LISTENERS)) == 0
        assert caplog.text.count("pooler") == 1
    async with listening(postgresql):
        assert int(server.execute(LISTENERS)) == 1, "the query can tell"
    eventually(lambda: int(server.execute(LISTENERS)) == 0)


async def test_i12_a_primary_that_has_become_a_standby_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent by a standby, and its connections stay."""
    monkeypatch.setattr(postgres_listener, "_CHECK", 0.2)
    with postgres_server() as primary, postgres_server(primary=primary) as standby:
        both = StoreSettings(url=f"postgresql://postgres@/postgres?host={standby.directory},{primary.directory}")
        async with listening(both) as heard:
            before = heard.times
            with monkeypatch.context() as patch:
                state = postgres_listener._STATE.replace("pg_is_in_recovery()", "true")
                patch.setattr(postgres_listener, "_STATE", state)  # as if that server had become a standby
                await asyncio.sleep(0.5)
            await heard.more_than(before)
            before = heard.times
            primary.stop()
            standby.execute("SELECT pg_promote()")
            await heard.more_than(before)
            await asyncio.to_thread(standby.execute, "NOTIFY sealwright")
            await heard.more_than(before + 1)


async def test_i12_sqlite_cannot_tell(tmp_path: Path) -> None:
    store = await SqlStore.open(settings(tmp_path / "state.db"))
    await asyncio.wait_for(store.listen(lambda: None), 5)
    await store.aclose()
