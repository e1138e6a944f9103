"""The databases that the tests of the store run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sealwright.sql import migrate
from sealwright.sql.settings import StoreSettings
from sealwright_testing.postgres import PostgresServer, postgres, postgres_binaries
from support.document import tool_missing

KINDS = ("sqlite", "postgresql")


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """Run a PostgreSQL server, or skip."""
    binaries = postgres_binaries()
    if binaries is None:
        tool_missing("postgresql")
        return
    with postgres(binaries) as server:
        yield server


def upgraded(url: str) -> None:
    """Create the tables of a store, or bring them up to date."""
    dialect = StoreSettings(url=url).dialect
    engine = dialect.open(url)
    try:
        migrate.upgrade(engine, dialect)
    finally:
        engine.dispose()
