"""I12: a copy of the store in another database has every row, or is not said to be one."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from sealwright.errors import ConfigurationError
from sealwright.keys.ports import ClockRecord, Replica
from sealwright.sql import copying
from sealwright.sql.copying import copy_store
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from support.databases import upgraded

from .rows import NOW, intent, issuer_state, key, opened, settings

HOUR = timedelta(hours=1)


async def fill(store: SqlStore) -> None:
    """Write to every table."""
    whole = key(1, ready_time=NOW, retire_time=NOW, withdraw_time=NOW + HOUR, revoke_time=NOW, destroy_time=NOW + HOUR)
    await store.add_intents(await issuer_state(store), [intent(n) for n in range(1, 4)])
    closed = replace(intent(1), kid="kid-1", close_time=NOW, asked_time=NOW, uri="awskms:///key-1", public_key=b"\0\1")
    await store.publish(await issuer_state(store), [whole, key(2, public_key=None)], [closed])
    await store.publish(await issuer_state(store, "Größe"), [key(3, "Größe")], [])
    await store.keep_urls({"payments": "https://id.example.com/payments"})
    await store.revoke_all("other", lambda _: [])
    await store.add_token_counts({("kid-1", 10**8): 10**12, ("kid-1", 10**8 + 1): 1, ("Kid-1", 10**8): 2})
    beat = Replica(replica_id="a", revision=1, start_time=NOW, seen_time=NOW)
    await store.heartbeat(beat, ClockRecord(boot_id="boot", zero=NOW, seen_time=NOW))


@pytest.fixture(params=["to postgresql", "from postgresql"])
def both(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql: StoreSettings
) -> tuple[StoreSettings, StoreSettings]:
    """An old and a new store."""
    upgraded(postgresql.url)
    sqlite = settings(tmp_path / "state.db")
    return (sqlite, postgresql) if request.param == "to postgresql" else (postgresql, sqlite)


async def test_i12_a_copy_is_the_same_deployment_with_every_row(both: tuple[StoreSettings, StoreSettings]) -> None:
    async with opened(both[0]) as old:
        await fill(old)
        counts = await copy_store(*both)
        assert counts == {
            "deployment": 1, "issuers": 2, "keys": 3, "intents": 3, "blocked_providers": 1, "clocks": 1, "token_counts": 3
        }  # fmt: skip
        async with opened(both[1]) as new:
            before, after = await old.read(), await new.read()
            assert replace(after, time=before.time) == before
            assert await new.live_tokens(["kid-1"], 0) == 10**12 + 1
            assert not await new.replicas(NOW)
            assert await new.publish(after.issuers["payments"], [key(9)], []), "it can be gone on with"


async def test_i12_nothing_is_copied_over_another_store(both: tuple[StoreSettings, StoreSettings]) -> None:
    async with opened(both[0]) as old, opened(both[1]) as new:
        await fill(old)
        await issuer_state(new, "other")
        before = await new.read()
        with pytest.raises(ConfigurationError, match="target: it must be empty"):
            await copy_store(*both)
        assert replace(await new.read(), time=before.time) == before


async def test_i12_a_store_in_use_is_not_copied(both: tuple[StoreSettings, StoreSettings]) -> None:
    async with opened(both[0]) as old, opened(both[1]) as new:
        await fill(old)
        now = (await old.read()).time
        await old.heartbeat(Replica(replica_id="b", revision=1, start_time=NOW, seen_time=now))
        with pytest.raises(ConfigurationError, match="stop the service"):
            await copy_store(*both)
        assert not (await new.read()).issuers


async def test_i12_a_store_that_changes_meanwhile_is_noticed(
    both: tuple[StoreSettings, StoreSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(both[0]) as old:
        await fill(old)

        def change() -> None:
            with old._engine.begin() as c:
                c.exec_driver_sql("UPDATE keys SET revoke_time = 1")

        fill_target = copying._fill

        def fill_and_change(c: Connection, rows: copying.Rows) -> None:
            fill_target(c, rows)
            change()

        monkeypatch.setattr(copying, "_fill", fill_and_change)
        with pytest.raises(ConfigurationError, match="has changed meanwhile"):
            await copy_store(*both)


async def test_i12_a_copy_that_differs_is_noticed(
    both: tuple[StoreSettings, StoreSettings], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(both[0]) as old:
        await fill(old)
    fill_target = copying._fill
    for table, number in (("keys", 0), ("intents", 2), ("token_counts", 1)):
        async with opened(both[1]) as new:
            with new._engine.begin() as c:
                for name in ("keys", "intents", "issuers", "token_counts", "clocks", "blocked_providers"):
                    c.exec_driver_sql(f"DELETE FROM {name}")  # noqa: S608 - of this test

        def lose(c: Connection, rows: copying.Rows, table: str = table, number: int = number) -> None:
            fill_target(c, {**rows, table: [r for n, r in enumerate(rows[table]) if n != number]})

        with monkeypatch.context() as patch:
            patch.setattr(copying, "_fill", lose)
            with pytest.raises(ConfigurationError, match="the copy differs"):
                await copy_store(*both)


async def test_i12_a_target_without_tables_is_named(tmp_path: Path, postgresql: StoreSettings) -> None:
    async with opened(tmp_path / "state.db") as old:
        await fill(old)
    with pytest.raises(ConfigurationError, match=r"^target: the schema is out of date"):
        await copy_store(settings(tmp_path / "state.db"), postgresql)
    gone = StoreSettings(url=postgresql.url.replace("swpg-", "none-"))
    with pytest.raises(ConfigurationError, match=r"^target: the store cannot be used"):
        await copy_store(settings(tmp_path / "state.db"), gone)
