"""I12: the store on PostgreSQL: what it leaves to others, and what it does when the database goes away."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from sealwright.errors import ConfigurationError
from sealwright.keys.ports import ClockRecord, Replica, StoreUnavailableError
from sealwright.sql import postgres
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright_testing.postgres import PostgresServer
from support.processes import pause
from support.waiting import eventually

from .rows import LIMITS, NOW, engine_of, intent, issuer_state, key, opened, upgrade

REPLICA = Replica(replica_id="a", revision=1, start_time=NOW, seen_time=NOW)
KILL = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'sealwright'"


async def test_i12_the_service_creates_no_table_by_itself(postgresql: StoreSettings, server: PostgresServer) -> None:
    with pytest.raises(ConfigurationError, match="run `sealwright db upgrade`"):
        await SqlStore.open(postgresql)
    assert server.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == "0"


async def test_i12_roles_have_the_least_rights(server: PostgresServer) -> None:
    """The statements of docs/store.md are enough, and a role can do nothing else."""
    roles, before, after = _statements_of_the_manual()
    for statement in filter(str.strip, roles.split(";")):  # not in one transaction, in which no database can be created
        server.execute(statement)
    name = "sealwright"
    server.execute(before, name, user="sealwright_owner")
    owner = StoreSettings(url=server.url(name, "sealwright_owner"))
    upgrade(engine := engine_of(owner))
    engine.dispose()
    server.execute(after, name, user="sealwright_owner")
    writer = StoreSettings(url=server.url(name, "sealwright"))
    store = await SqlStore.open(writer)
    assert await store.publish(await issuer_state(store), [key(1)], [])
    state = await issuer_state(store)
    assert await store.add_intents(state, [intent(1)])
    await store.heartbeat(REPLICA)
    await store.prune(replicas_seen_before=NOW, tokens_expired_before=0)
    await store.revoke_all("aws", lambda _: [])
    assert await store.unblock("aws")
    clock = ClockRecord(boot_id="a", zero=NOW, seen_time=NOW)
    assert await store.settle_clock(await store.read(), timedelta(hours=1), clock)
    await store.farewell("a")
    for statement in (
        "DROP TABLE keys",
        "DELETE FROM keys",
        "DELETE FROM intents",
        "TRUNCATE issuers",
        "CREATE TABLE other (name text)",
        "DELETE FROM deployment",
        "UPDATE alembic_version SET version_num = '0'",
    ):
        with pytest.raises(RuntimeError, match=r"denied|must be owner"):
            server.execute(statement, name, user="sealwright")
    await store.aclose()
    reader = await SqlStore.open(StoreSettings(url=server.url(name, "sealwright_reader")), upgrade=False)
    assert [k.kid for k in (await reader.read()).issuers["payments"].keys] == ["kid-1"]
    with pytest.raises(StoreUnavailableError, match="permission denied"):
        await reader.heartbeat(REPLICA)
    await reader.aclose()


def _statements_of_the_manual() -> list[str]:
    manual = (Path(__file__).parents[3] / "docs" / "store.md").read_text(encoding="utf-8")
    return [part.partition("```")[0] for part in manual.split("```sql\n")[1:4]]


async def test_i12_a_connection_that_was_killed_is_replaced_at_once(
    postgresql: StoreSettings, server: PostgresServer
) -> None:
    async with opened(postgresql) as store:
        await issuer_state(store)
        for _ in range(3):
            server.execute(KILL)
            await store.probe()
            server.execute(KILL)
            await store.heartbeat(REPLICA)


async def test_i12_a_transaction_whose_connection_is_killed_changes_nothing(
    postgresql: StoreSettings, server: PostgresServer
) -> None:
    async with opened(postgresql) as store:
        before = await issuer_state(store)

        def die(_: object) -> None:
            server.execute(KILL)

        with pytest.raises(StoreUnavailableError):
            await store._swap(before, die)
        assert await issuer_state(store) == before
        assert await store.publish(before, [key(1)], [])


@pytest.mark.usefixtures("no_pause")
async def test_i12_a_database_that_was_down_is_used_again(postgresql: StoreSettings, server: PostgresServer) -> None:
    async with opened(postgresql) as store:
        state = await issuer_state(store)
        server.stop()
        try:
            for _ in range(3):
                with pytest.raises(StoreUnavailableError, match="cannot be used"):
                    await store.probe()
                with pytest.raises(StoreUnavailableError, match="cannot be used"):
                    await store.publish(state, [key(1)], [])
        finally:
            server.start()
        assert await store.publish(state, [key(1)], [])
        assert [k.kid for k in (await store.read()).issuers["payments"].keys] == ["kid-1"]


async def test_i12_a_database_that_is_down_is_not_stormed(
    postgresql: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr("sealwright.sql.postgres_connection.time.monotonic", lambda: now[0])
    gone = postgresql.url.replace("swpg-", "none-")
    store = SqlStore(engine_of(StoreSettings(url=gone)), postgresql.dialect)
    attempts = 0
    for _ in range(600):  # a minute of ten attempts a second
        with pytest.raises(StoreUnavailableError) as caught:
            await store.probe()
        attempts += "another attempt follows" not in str(caught.value)
        now[0] += 0.1
    assert 10 < attempts < 35
    await store.aclose()


async def test_i12_a_writer_that_stopped_in_the_middle_does_not_keep_others_waiting_for_long(
    postgresql: StoreSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(postgresql, busy_timeout=0.3) as store:
        state = await issuer_state(store)
        monkeypatch.setattr(postgres, "_IDLE_TIMEOUT", 2.0)
        paused = engine_of(postgresql)
        with paused.connect() as connection:
            connection.execute(text("SELECT * FROM deployment FOR UPDATE"))
            with pytest.raises(StoreUnavailableError, match="lock timeout"):
                await store.publish(state, [key(1)], [])
            await store.read()
            await store.heartbeat(REPLICA)  # of its own row
            for _ in range(60):
                try:
                    assert await store.publish(state, [key(1)], [])
                    break
                except StoreUnavailableError:
                    await asyncio.sleep(0.1)
            else:
                pytest.fail("the lock was never given back")
            connection.invalidate()
        paused.dispose()


async def test_i12_a_standby_is_not_read(postgresql: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it has may be old. Here a function of the same name stands for a server that has become a standby."""
    async with opened(postgresql) as store:
        await issuer_state(store)
        with monkeypatch.context() as patch:
            for name in ("_SETTINGS", "_PROBE"):
                standby = text(str(getattr(postgres, name)).replace("pg_is_in_recovery()", "true"))
                patch.setattr(postgres, name, standby)
            for use in (store.read, store.probe, lambda: store.heartbeat(REPLICA)):
                with pytest.raises(StoreUnavailableError, match="standby"):
                    await use()
        await store.probe()


def _turn_read_only_and_write(connection: Connection) -> None:
    connection.execute(text("SET TRANSACTION READ ONLY"))
    connection.execute(text("DELETE FROM keys"))


async def test_i12_a_primary_that_became_read_only_is_left(postgresql: StoreSettings, server: PostgresServer) -> None:
    async with opened(postgresql) as store:
        await issuer_state(store)
        pid = server.execute("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'sealwright'")
        with pytest.raises(StoreUnavailableError, match="read-only"):
            await store._write(_turn_read_only_and_write)
        eventually(lambda: server.execute(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}") == "0")  # noqa: S608
        server.execute("ALTER DATABASE postgres SET default_transaction_read_only = on", "template1")
        try:
            server.execute(KILL, "template1")
            with pytest.raises(StoreUnavailableError, match="read-only"):  # libpq looks for another host
                await store.probe()
        finally:
            server.execute("ALTER DATABASE postgres RESET default_transaction_read_only", "template1")


async def test_i12_no_state_of_a_session_is_left_behind(postgresql: StoreSettings) -> None:
    """PgBouncer gives each transaction another session."""
    async with opened(postgresql) as store:
        for number in range(1, 8):
            await store.publish(await issuer_state(store), [key(number)], [])
            await store.read()
        with store._engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None
            connection.rollback()
            left = driver.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
            assert left == (0,)
            for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
                assert driver.execute(f"SHOW {name}").fetchone() == ("0",)
            driver.rollback()


async def test_i12_backups_are_left_to_postgresql(postgresql: StoreSettings, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pg_dump"):
        postgresql.dialect.backup(postgresql.url, tmp_path / "copy.db")


async def test_i12_no_password_is_in_an_error_or_a_log(
    postgresql: StoreSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("PGPASSWORD", "hunter2")
    with pytest.raises(StoreUnavailableError) as caught:
        await SqlStore.open(StoreSettings(url=postgresql.url.replace("swpg-", "none-")), upgrade=False)
    assert "hunter2" not in f"{caught.value}{caught.value.__cause__!r}{caplog.text}"
    assert "\n" not in str(caught.value)


async def test_i12_limits_are_raised_by_two_at_once(postgresql: StoreSettings) -> None:
    """Two replicas that see no row of a new issuer do not both insert it."""
    async with opened(postgresql) as one, opened(postgresql) as other:
        for number in range(20):
            await asyncio.gather(*(s.ensure_issuer(f"issuer-{number}", LIMITS) for s in (one, other)))
        assert len((await one.read()).issuers) == 20


async def test_i12_a_database_that_does_not_answer_is_not_waited_for(
    postgresql: StoreSettings, server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pooler that hangs, or a machine that was frozen, keeps the connection and obeys no limit of the database."""
    monkeypatch.setattr(postgres, "ANSWER_TIMEOUT", 2.0)
    async with opened(postgresql) as store:
        state = await issuer_state(store)
        pid = int(server.execute("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'sealwright'"))
        pause(pid)
        try:
            await asyncio.wait_for(store.probe(), 10)  # on another connection
            assert await store.publish(state, [key(1)], [])
        finally:
            os.kill(pid, signal.SIGCONT)
        pid = int(server.execute("SELECT min(pid) FROM pg_stat_activity WHERE application_name = 'sealwright'"))

        def hang(connection: Connection) -> None:
            pause(pid)
            connection.execute(text("SELECT 1"))

        try:
            with pytest.raises(StoreUnavailableError, match="does not answer"):
                await store._write(hang)
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (await store.read()).issuers["payments"].keys


@pytest.mark.parametrize(
    "statement",
    ["UPDATE keys SET publish_time = 9223372036854775807", "DELETE FROM deployment", "DROP TABLE intents"],
)
async def test_i12_what_cannot_be_understood_is_not_read(
    postgresql: StoreSettings, server: PostgresServer, statement: str
) -> None:
    async with opened(postgresql) as store:
        await store.publish(await issuer_state(store), [key(1)], [])
        server.execute(statement)
        with pytest.raises(StoreUnavailableError):
            await store.read()


async def test_i12_a_writer_that_is_cancelled_leaves_a_store_that_works(postgresql: StoreSettings) -> None:
    async with opened(postgresql, busy_timeout=0.3) as store:
        state = await issuer_state(store)
        other = engine_of(postgresql)
        with other.connect() as connection:
            connection.execute(text("SELECT * FROM deployment FOR UPDATE"))
            writing = asyncio.ensure_future(store.publish(state, [key(1)], []))
            await asyncio.sleep(0.05)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
        other.dispose()
        await store.heartbeat(REPLICA)
        assert await store.publish(await issuer_state(store), [key(2)], [])
        await store.aclose()
        with pytest.raises(StoreUnavailableError):
            await store.probe()
