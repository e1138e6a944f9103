"""Migrations: they create the tables that the code uses, from any earlier state."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text

from sealwright.errors import ConfigurationError
from sealwright.keys.ports import Replica, StoreUnavailableError
from sealwright.sql import migrate as migrations
from sealwright.sql.copying import copy_store
from sealwright.sql.migrate import current_revision
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright.sql.tables import SCHEMA, deployment, keys, metadata

from .rows import LIMITS, NOW, engine_of, issuer_state, key, opened, upgrade

REFUSED = r"^store.url: the database is at revision 0999, .*: run the newer version$"
_DIRECTORY = str(Path(migrations.__file__).parent / "migrations")
NEWEST = max(migrations.REVISIONS)


def test_the_migrations_make_the_tables_that_the_code_knows(database: StoreSettings) -> None:
    engine = engine_of(database)
    upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []
        connection.execute(text("ALTER TABLE keys DROP COLUMN destroy_time"))
        assert len(compare_metadata(context, metadata)) == 1, "the comparison can tell"
    engine.dispose()


def test_the_constraints_are_in_the_database(database: StoreSettings) -> None:
    engine = engine_of(database)
    upgrade(engine)
    with engine.connect() as connection:
        found = inspect(connection)
        made = {found.get_pk_constraint("keys")["name"]}
        made |= {c["name"] for c in [*found.get_unique_constraints("keys"), *found.get_foreign_keys("keys")]}
    engine.dispose()
    assert made == {constraint.name for constraint in keys.constraints}


def test_an_upgrade_may_be_repeated(database: StoreSettings) -> None:
    engine = engine_of(database)
    assert upgrade(engine) == NEWEST
    with engine.connect() as connection:
        before = connection.execute(select(deployment)).one()
    assert upgrade(engine) == NEWEST
    with engine.connect() as connection:
        assert connection.execute(select(deployment)).one() == before
        assert current_revision(connection) == NEWEST
    engine.dispose()


async def test_a_store_of_a_newer_version_is_refused(database: StoreSettings) -> None:
    engine = engine_of(database)
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
        connection.execute(text("UPDATE deployment SET oldest_schema = '0999'"))
    for more in ({}, {"upgrade": False}, {"exactly": True}):
        with pytest.raises(ConfigurationError, match=REFUSED):
            await SqlStore.open(database, **more)
    with pytest.raises(ConfigurationError, match=REFUSED):
        upgrade(engine)
    engine.dispose()


async def test_i12_a_newer_store_that_lets_this_version_use_it_is_used_and_left_as_it_is(
    database: StoreSettings,
) -> None:
    """A migration that only adds something lets replicas of the version before it go on, and start again."""
    engine = engine_of(database)
    upgrade(engine)
    with engine.begin() as connection:
        for statement in (
            "UPDATE alembic_version SET version_num = '0999'",
            "ALTER TABLE keys ADD COLUMN colour VARCHAR(9) DEFAULT 'green' NOT NULL",
            "ALTER TABLE deployment ADD COLUMN motto VARCHAR(9)",
            "ALTER TABLE replicas ADD COLUMN mood VARCHAR(9)",
            "CREATE TABLE news (name VARCHAR(9))",
        ):
            connection.execute(text(statement))
    assert upgrade(engine) == "0999"
    store = await SqlStore.open(database)
    assert await store.publish(await issuer_state(store), [key(1)], [])
    with engine.begin() as connection:
        connection.execute(text("UPDATE keys SET colour = 'red'"))
    retired = key(1, retire_time=NOW)
    assert await store.change_keys(await issuer_state(store), [retired])
    replica = Replica(replica_id="a", revision=1, start_time=NOW, seen_time=NOW)
    await store.heartbeat(replica)
    await store.heartbeat(replica)
    assert (await issuer_state(store)).keys == (retired,)
    assert list(await store.replicas(NOW)) == [replica]
    with engine.begin() as connection:
        assert connection.execute(text("SELECT colour FROM keys")).scalar_one() == "red", "what is not known stays"
    with pytest.raises(ConfigurationError, match=REFUSED):  # a copy would lack what is not known
        await copy_store(database, database)
    await store.aclose()
    engine.dispose()


async def test_i12_a_store_that_is_changed_beyond_understanding_while_it_is_used_is_left_at_once(
    database: StoreSettings,
) -> None:
    async with opened(database) as store:
        state = await issuer_state(store)
        with store._engine.begin() as connection:
            connection.execute(text("UPDATE deployment SET oldest_schema = '0999'"))
        for use in (
            store.read(),
            store.publish(state, [key(1)], []),
            store.ensure_issuer("other", LIMITS),
            store.revoke_all("aws", lambda _: []),
            store.farewell("a"),
        ):
            with pytest.raises(StoreUnavailableError, match=r"schema 0999.*knows 0\d{3}: run the newer version"):
                await use
        with store._engine.begin() as connection:
            assert connection.execute(text("SELECT count(*) FROM keys")).scalar_one() == 0


def test_the_code_names_its_newest_migration() -> None:
    assert NEWEST == SCHEMA


async def test_a_database_of_something_else_is_refused_untouched(database: StoreSettings) -> None:
    engine = engine_of(database)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE customers (name TEXT)"))
    with pytest.raises(ConfigurationError, match=r"^store.url: the database contains tables of another application$"):
        await SqlStore.open(database)
    with pytest.raises(ConfigurationError, match="tables of another application"):
        upgrade(engine)
    with engine.begin() as connection:
        assert _tables(connection) == ["customers"]
    engine.dispose()


def test_alembic_is_loaded_only_where_there_is_something_to_migrate(tmp_path: Path) -> None:
    code = (
        "import asyncio, sys; from sealwright.sql.settings import StoreSettings; from sealwright.sql.store import SqlStore\n"
        f"store = asyncio.run(SqlStore.open(StoreSettings(url='sqlite:///{tmp_path}/state.db')))\n"
        "print('alembic' in sys.modules)"
    )
    seen = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout  # noqa: S603 - ours
        for _ in range(2)
    ]
    assert seen == ["True\n", "False\n"]


def test_the_revisions_are_those_of_the_migrations() -> None:
    assert {script.revision for script in ScriptDirectory(_DIRECTORY).walk_revisions()} == migrations.REVISIONS


def test_a_migration_that_fails_leaves_nothing_behind(database: StoreSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(database)

    def fail(_: object) -> str:
        raise RuntimeError("as if it were killed")

    with monkeypatch.context() as patch:
        patch.setattr("sealwright.sql.migrate.current_revision", lambda c: None if not _tables(c) else fail(c))
        with pytest.raises(RuntimeError, match="as if"):
            upgrade(engine)
    with engine.begin() as connection:
        assert _tables(connection) == []
    assert upgrade(engine) == NEWEST
    engine.dispose()


def _tables(connection: Connection) -> list[str]:
    return inspect(connection).get_table_names()
