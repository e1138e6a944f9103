"""I12: what reading the store costs: one query while nothing has changed, and the rows of one issuer when that has changed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine, event

from sealwright.keys.ports import StoreState
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from support.databases import LOGGED, postgres_server, statements, upgraded

from .rows import LIMITS, NOW, intent, issuer_state, key, opened

ISSUERS = 60


@contextmanager
def rows_of(engine: Engine) -> Iterator[list[tuple[str, int]]]:
    """Note each statement, and how many rows it gives."""
    seen: list[tuple[str, int]] = []

    def note(_c: object, cursor: object, statement: str, *_: object) -> None:
        seen.append((statement, getattr(cursor, "rowcount", -1)))

    event.listen(engine, "after_cursor_execute", note)
    yield seen
    event.remove(engine, "after_cursor_execute", note)


async def _fill(store: SqlStore) -> StoreState:
    for number in range(ISSUERS):
        await store.ensure_issuer(f"issuer-{number}", LIMITS)
    state = await store.read()
    for number in range(ISSUERS):
        row = state.issuers[f"issuer-{number}"]
        assert await store.publish(row, [key(number, row.name)], [])
    return await store.read()


async def test_i12_a_change_of_one_issuer_is_read_alone(database: StoreSettings) -> None:
    async with opened(database) as store:
        known = await _fill(store)
        row = known.issuers["issuer-7"]
        assert await store.publish(row, [key(1000, row.name, ordinal=1000)], [])
        with rows_of(store._engine) as seen:
            now = await store.read(known)
        assert {n for n, i in now.issuers.items() if i is not known.issuers[n]} == {"issuer-7"}
        assert [k.kid for k in now.issuers["issuer-7"].keys] == ["kid-7", "kid-1000"]
        assert now.issuers == (await store.read()).issuers
        if database.url.startswith("postgresql"):  # SQLite's driver does not count
            assert sum(rows for _, rows in seen) < 10
        assert len(seen) < 12


async def test_i12_each_kind_of_change_is_noticed_by_a_reader_that_knows_what_was_before(
    database: StoreSettings,
) -> None:
    async with opened(database) as store:
        await issuer_state(store, "other")
        known = await store.read()
        row = await issuer_state(store)

        async def same_as_everything() -> StoreState:
            state = await store.read(known)
            whole = await store.read()
            assert (state.revision, state.issuers, state.blocked) == (whole.revision, whole.issuers, whole.blocked)
            return state

        known = await same_as_everything()
        assert await store.add_intents(row, [intent(1)])
        known = await same_as_everything()
        assert await store.publish(known.issuers["payments"], [key(1)], [])
        known = await same_as_everything()
        await store.revoke_all("aws", lambda s: [key(1, revoke_time=NOW)] if s.issuers["payments"].keys else [])
        known = await same_as_everything()
        assert known.issuers["payments"].keys[0].revoke_time == NOW
        assert await store.unblock("aws")
        known = await same_as_everything()
        assert not known.blocked
        await store.farewell("replica-1", NOW)
        known = await same_as_everything()
        for statement in (
            "UPDATE issuers SET revision = revision + 1, url = 'https://by.hand' WHERE name = 'other'",
            "UPDATE deployment SET revision = revision + 1",
        ):
            await store._write(lambda c, s=statement: c.exec_driver_sql(s))  # type: ignore[misc]
        assert (await same_as_everything()).issuers["other"].url == "https://by.hand"


async def test_i12_a_restored_store_is_read_whole(database: StoreSettings) -> None:
    """What a reader knows of a newer state may never have happened."""
    async with opened(database) as store:
        before = await _fill(store)
        row = before.issuers["issuer-3"]
        assert await store.publish(row, [key(1000, row.name, ordinal=1000)], [])
        known = await store.read()
        for statement in (
            "DELETE FROM keys WHERE kid = 'kid-1000'",
            f"UPDATE issuers SET revision = {row.revision} WHERE name = 'issuer-3'",  # noqa: S608 - a test
            f"UPDATE deployment SET revision = {before.revision}",  # noqa: S608 - a test
        ):
            await store._write(lambda c, s=statement: c.exec_driver_sql(s))  # type: ignore[misc]
        assert (await store.read(known)).issuers == before.issuers


async def test_i12_the_database_sees_one_query_for_a_look_and_nothing_else() -> None:
    """Counted by the database, which logs every statement."""
    with postgres_server(*LOGGED) as server:
        upgraded(server.url("postgres"))
        store = await SqlStore.open(StoreSettings(url=server.url("postgres")))
        await _fill(store)
        await store.probe()
        before = statements(server)
        for _ in range(10):
            await store.probe()
        seen = statements(server)[len(before) :]
        assert len(seen) == 10
        assert len(set(seen)) == 1
        await store.aclose()
