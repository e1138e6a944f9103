"""Migrations: they create the tables that the code uses, from any earlier state."""

from __future__ import annotations

from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, select, text

from sealwright.errors import ConfigurationError
from sealwright.sql import migrate as migrations
from sealwright.sql.migrate import current_revision
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright.sql.tables import deployment, keys, metadata

from .rows import engine_of, upgrade

NEWEST = max(
    p.name.partition("_")[0] for p in (Path(migrations.__file__).parent / "migrations" / "versions").glob("0*.py")
)


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
    engine.dispose()
    with pytest.raises(
        ConfigurationError, match=r"^store.url: the database is at revision 0999, .*: run the newer version$"
    ):
        await SqlStore.open(database)


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
