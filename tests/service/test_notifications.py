"""I12: a change reaches the replicas on other hosts by a notification, long before they look into the store by themselves."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import event

from sealwright.clock import SystemClock
from sealwright.keys.keyring import Keyring
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.settings import TimingSettings
from sealwright.keys.token_counts import TokenCounts
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.postgres import PostgresServer
from support.databases import LOGGED, postgres_server, statements, upgraded
from support.document import document, issuer
from support.service import Service, running, until

from .test_postgres import on

SELDOM: dict[str, Any] = {"timing": {"refresh_interval": "10m"}}
"""Longer than a test may take."""
FLOOD = "SELECT pg_notify('sealwright', 'x' || i) FROM generate_series(1, 50) i"
LISTENERS = "SELECT count(*) FROM pg_stat_activity WHERE query = 'LISTEN sealwright'"
KILL = "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = 'sealwright'"


async def _gone(service: Service, kid: str) -> bool:
    return kid not in await service.published()


async def _signs_with_another(service: Service, kid: str) -> bool:
    return bool((await service.sign()).kid != kid)


async def test_i12_a_rotation_and_a_revocation_reach_another_host_that_looks_every_ten_minutes(
    tmp_path: Path, url: str, emulator: AwsEmulator, server: PostgresServer
) -> None:
    first = on(tmp_path, url, emulator, **SELDOM)
    async with running(first) as one, running(on(tmp_path, url, emulator, "two", **SELDOM)) as other:
        await until(lambda: _listens(server, 2))
        before = (await other.sign()).kid
        await one.rotate()
        await until(lambda: _signs_with_another(other, before))
        now = (await other.sign()).kid
        await one.revoke(now)
        await until(lambda: _gone(other, now))
        assert server.execute(KILL) != "0"
        await until(lambda: _listens(server, 2))
        await other.revoke(before)
        await until(lambda: _gone(one, before))
        assert (await one.published()).keys() == (await other.published()).keys()


async def _listens(server: PostgresServer, number: int) -> bool:
    return server.execute(LISTENERS) == str(number)


async def test_i12_a_row_is_written_every_few_seconds_however_seldom_the_store_is_read(
    tmp_path: Path, url: str, emulator: AwsEmulator, server: PostgresServer
) -> None:
    seen = "SELECT seen_time FROM replicas"
    async with running(on(tmp_path, url, emulator, **SELDOM)):
        before = server.execute(seen)

        async def later() -> bool:
            return server.execute(seen) != before

        await until(later)
        before = server.execute(seen)
        await until(later)


async def test_i12_an_idle_replica_asks_one_query_for_each_look_whatever_the_number_of_issuers(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    names = [f"issuer-{n}" for n in range(20)]
    with postgres_server(*LOGGED) as server:
        upgraded(server.url("postgres"))
        often = {"timing": {"refresh_interval": "100ms"}}
        tables = document(
            tmp_path, emulator.endpoint, *map(issuer, names), store={"url": server.url("postgres")}, **often
        )
        async with running(tables):
            await until(lambda: _only_looks(server))


async def _only_looks(server: PostgresServer) -> bool:
    """Watch for a while, once the start is over."""
    before = len(statements(server))
    await asyncio.sleep(3)
    asked = statements(server)[before:]
    looks = [s for s in asked if s.startswith("SELECT revision, ")]
    # Now and then the replica writes its row, in a transaction of five or six statements.
    beats = [s for s in asked if s.startswith("INSERT INTO replicas")]
    return len(looks) > 4 * len(beats) and len(asked) <= len(looks) + 6 * len(beats)


class _Forgetful:
    """Remembers nothing of the store."""

    def read(self) -> None:
        return None

    def record(self, _: object) -> None:
        return None


async def test_i12_a_flood_of_notifications_becomes_a_few_reads_a_second(url: str) -> None:
    store = await SqlStore.open(StoreSettings(url=url))
    clock, timing = SystemClock(), TimingSettings.model_validate(SELDOM["timing"])
    keyring = Keyring([], timing, clock)
    sync = ReplicaSync("a", store, keyring, TokenCounts(store), witness=_Forgetful(), timing=timing, clock=clock)
    probes: Counter[str] = Counter()

    @event.listens_for(store._engine, "before_cursor_execute")
    def _count(*args: Any) -> None:
        probes["revision"] += "revision" in args[2] and args[2].startswith("SELECT")

    jobs = [asyncio.create_task(job) for job in (sync.run(), store.listen(sync.wake))]
    began = clock.elapsed()
    flooder = await SqlStore.open(StoreSettings(url=url))
    try:
        for _ in range(300):
            await flooder._read(lambda c: c.exec_driver_sql(FLOOD))
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
    assert 2 <= probes["revision"] <= 4 * (clock.elapsed() - began) + 5
    await flooder.aclose()
    await store.aclose()
