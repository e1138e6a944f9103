"""The database: a primary, and a standby that has every commit before its writer hears of it."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sealwright_testing.postgres import PostgresServer
from support.databases import postgres_server, upgraded
from support.document import tool_missing

KILL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'sealwright%'"
BEHIND = 0.8
"""Seconds."""
_SECONDS = 30


class Pair:
    """Two servers. All methods block.

    Attributes:
        primary: The one that is written to.
        standby: The other.
    """

    def __init__(self, primary: PostgresServer, standby: PostgresServer) -> None:
        self.primary, self.standby = primary, standby
        self.servers = (primary, standby)
        self._require_standby()

    def sockets(self) -> list[Path]:
        """Return the sockets of both servers, in an order that never changes."""
        return [s.directory / ".s.PGSQL.5432" for s in self.servers]

    def url(self) -> str:
        """Return the URL of the store, without any proxy."""
        hosts = ",".join(str(s.directory) for s in self.servers)
        return f"postgresql://postgres@/postgres?host={hosts}"

    def execute(self, statement: str) -> str:
        """Run SQL on the primary. Raises RuntimeError if that fails."""
        return self.primary.execute(statement)

    def stop(self) -> None:
        """Stop the primary, as a crash would."""
        self.primary.stop()

    def start(self) -> None:
        """Start the primary again, and wait for its standby."""
        self.primary.start()
        self._require_standby()

    def promote(self) -> None:
        """Make the standby the primary. The old one is gone."""
        self.standby.execute("SELECT pg_promote()")
        self.primary, self.standby = self.standby, self.primary

    def rebuild(self) -> None:
        """Copy the new primary to the old one's place, and follow it."""
        shutil.rmtree(self.standby.directory / "data")
        self.standby.set_up_standby(self.primary)
        self.standby.start()
        self._require_standby()

    def _require_standby(self) -> None:
        """From now on no commit is acknowledged that the standby does not have: a failover loses none."""
        _until(lambda: self.execute("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'") == "1")
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self.execute("SELECT pg_reload_conf()")


def _slow_clock() -> dict[str, str]:
    """Return the environment of a process whose clock is behind."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
    if library is None:
        tool_missing("libfaketime")
    return {
        "LD_PRELOAD": str(library),
        "FAKETIME": f"-{BEHIND}",
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


@contextmanager
def pair() -> Iterator[Pair]:
    """Run two servers with the tables of a store. The clock of the second one is behind, by less than replicas tolerate."""
    with postgres_server() as primary, postgres_server(primary=primary) as standby:
        standby.stop()
        standby.environment = _slow_clock()
        standby.start()
        both = Pair(primary, standby)
        upgraded(both.url())
        yield both


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + _SECONDS
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("the standby does not follow the primary")
        time.sleep(0.05)
