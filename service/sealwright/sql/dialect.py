"""What a database must provide so that `store.py` and `migrate.py` can work with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Connection, Engine, Executable, Table
from sqlalchemy.exc import DBAPIError

from sealwright.sql.presence import Presence

ANNOUNCEMENT: Final = "sealwright_announcement"
"""The option of an engine for the statement that tells other processes of a change, when the transaction that makes it commits."""


class Listener(Protocol):
    """Hears of changes that other processes make."""

    async def run(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` after each change of the store, and whenever one may have been missed, until cancelled.

        It may be called more often. While the database cannot be reached or tells nothing, it is not called: the caller looks into
        the store by itself, too.
        """
        ...


class Dialect(Protocol):
    """The differences between databases. `sql/settings.py` selects the dialect by the store's URL."""

    @property
    def clock(self) -> Executable:
        """A query for the database's own clock: one number, the seconds since the epoch, with at least milliseconds."""
        ...

    @property
    def read_options(self) -> Mapping[str, Any]:
        """Execution options of a transaction that only reads, in which every query sees the same moment of the database.

        A transaction without them may write. READ COMMITTED is enough for it, because it begins with `statements.lock_store`.
        """
        ...

    @property
    def upgrades_at_start(self) -> bool:
        """Whether the service may create the schema itself. Otherwise an operator does, who has more rights than the service."""
        ...

    def check_url(self, url: str) -> None:
        """Check the store's URL.

        Raises:
            ValueError: The URL cannot be used. The message does not contain it, because it may contain a password.
        """
        ...

    def open(self, url: str) -> Engine:
        """Return an engine for a checked URL, without connecting to the database.

        A transaction of the engine raises `StoreUnavailableError` when it must not go on with this database.
        """
        ...

    def probe(self, engine: Engine) -> tuple[int, float]:
        """Return the revision of the store, and after that the database's own clock, in one query that costs as little as possible.

        Raises:
            StoreUnavailableError: This database must not be used.
        """
        ...

    def listener(self, url: str) -> Listener | None:
        """Return what hears of changes, for a checked URL, without connecting to the database; None: the database cannot tell.

        Raises:
            ConfigurationError: The driver is not installed.
        """
        ...

    def exists(self, url: str) -> bool:
        """Return whether there is a database at a checked URL. Create nothing."""
        ...

    def file_of(self, url: str) -> Path | None:
        """Return the file of the database; None: it is not a file of this host."""
        ...

    def missing_here(self, url: str) -> Iterator[str]:
        """Yield what the database needs of this host and does not find, apart from its own file."""
        ...

    def presence(self, url: str) -> Presence | None:
        """Return where the replicas of one host show that they are alive; None: they may be on other hosts."""
        ...

    def settle(self, engine: Engine) -> None:
        """Do what makes the last commits independent of files beside the database, if that can be done now."""
        ...

    def backup(self, url: str, target: Path) -> None:
        """Copy the database to a new file, while others may read and write it. The copy is one moment of the database, and durable.

        Raises:
            ConfigurationError: The database has means of its own for backups.
            OSError: The file cannot be written.
            StoreUnavailableError: The database cannot be read.
        """
        ...

    def lock_schema(self, connection: Connection) -> None:
        """Exclude all other processes that change the schema, until the connection's transaction ends."""
        ...

    def reason_of(self, error: DBAPIError) -> str:
        """Return in one line what the database said, without any value that the store holds."""
        ...

    def upsert(self, table: Table, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Executable:
        """Return a statement that inserts a row, or changes the row that has the same primary key.

        Args:
            table: The table.
            values: The whole row, by column.
            changes: What to write to an existing row, by column.
        """
        ...
