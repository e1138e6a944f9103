"""The databases that the tests of the store run on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

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
