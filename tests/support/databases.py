"""The databases that the tests of the store run on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sealwright.sql import migrate
from sealwright.sql.settings import StoreSettings
from sealwright_testing.postgres import PostgresServer, postgres, postgres_binaries
from support.document import tool_missing

KINDS = ("sqlite", "postgresql")
LOGGED = ("log_statement=all", "log_line_prefix=")
"""Options of a server for `statements`."""


@contextmanager
def postgres_server(*options: str, port: int = 5432, primary: PostgresServer | None = None) -> Iterator[PostgresServer]:
    """Run a PostgreSQL server, or skip. The arguments are those of `postgres`."""
    binaries = postgres_binaries()
    if binaries is None:
        tool_missing("postgresql")
        return
    with postgres(binaries, *options, port=port, primary=primary) as server:
        yield server


def upgraded(url: str) -> None:
    """Create the tables of a store, or bring them up to date."""
    dialect = StoreSettings(url=url).dialect
    engine = dialect.open(url)
    try:
        migrate.upgrade(engine, dialect)
    finally:
        engine.dispose()


def statements(server: PostgresServer) -> list[str]:
    """Return what a server with the options LOGGED was asked."""
    return re.findall(
        r"^LOG:  (?:statement|execute <unnamed>): (.*)", server.log.read_text(encoding="utf-8"), re.MULTILINE
    )
