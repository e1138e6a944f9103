"""The store on SQLite: one file on a local file system, shared by the processes of one host."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Executable, Table, create_engine, event, text
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from sealwright.keys.ports import StoreUnavailableError
from sealwright.settings import check_path
from sealwright.sql.presence import Presence

BUSY_TIMEOUT: Final = 5.0
"""Longest time in seconds that a transaction waits for the transaction of another process."""
_MODE: Final = 0o600
_PAUSE: Final = 0.01
_READ_ONLY: Final = "sealwright_read_only"
_CLOCK: Final = "strftime('%s', 'now') || substr(strftime('%f', 'now'), 3)"
_PROBE: Final = text(f"SELECT revision, {_CLOCK} FROM deployment")  # noqa: S608 - constants


class SqliteDialect:
    """SQLite in WAL mode. See `sql.dialect.Dialect`."""

    clock: Executable = text(f"SELECT {_CLOCK}")
    read_options: Mapping[str, Any] = {_READ_ONLY: True}

    upgrades_at_start = True

    def __init__(self, busy_timeout: float = BUSY_TIMEOUT) -> None:
        self._busy_timeout = busy_timeout

    def check_url(self, url: str) -> None:
        """See `Dialect.check_url`. Only the path of a file may be given: options such as `mode=memory` would lose the state."""
        try:
            given = make_url(url)
        except (ArgumentError, ValueError):  # ValueError: the port is not a number
            raise ValueError("must be a database URL such as sqlite:////var/lib/sealwright/state.db") from None
        if not given.database or not given.database.startswith("/") or given.query or given.host or given.username:
            raise ValueError("must name an absolute path (sqlite: and four slashes), and nothing else")
        check_path(given.database)

    def open(self, url: str) -> Engine:
        """See `Dialect.open`.

        A transaction that may write begins IMMEDIATE. A deferred transaction that reads and then writes fails with `database
        is locked`, whatever the busy timeout (https://www.sqlite.org/lang_transaction.html). A transaction that only reads
        begins DEFERRED, so that it does not wait for writers.

        SQLite syncs fully. Otherwise a power cut could undo a commit, and with it a key that verifiers have seen.

        A transaction fails when the file was deleted or replaced. SQLite would silently continue to use the deleted file
        (https://www.sqlite.org/howtocorrupt.html §1.4).
        """
        # The driver's own timeout applies until the PRAGMA does.
        arguments = {"isolation_level": None, "check_same_thread": False, "timeout": self._busy_timeout}
        engine = create_engine(url, connect_args=arguments)
        file = _file_of(url)
        opened: list[tuple[int, int]] = []

        @event.listens_for(engine, "do_connect")
        def _before_connect(*_: Any) -> None:
            _create_private(file)
            _require_writable(file)

        @event.listens_for(engine, "connect")
        def _on_connect(connection: Any, _record: Any) -> None:
            cursor = connection.cursor()
            cursor.execute(f"PRAGMA busy_timeout = {round(self._busy_timeout * 1000)}")
            _use_wal(cursor, self._busy_timeout)
            cursor.execute("PRAGMA synchronous = FULL")
            cursor.execute("PRAGMA foreign_keys = ON")
            cursor.close()

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Connection) -> None:
            if not opened:
                opened.append(_identity(file))
            if _identity(file) != opened[0]:
                raise StoreUnavailableError("the store's file was deleted or replaced")
            reads = connection.get_execution_options().get(_READ_ONLY, False)
            connection.exec_driver_sql("BEGIN DEFERRED" if reads else "BEGIN IMMEDIATE")

        return engine

    def probe(self, engine: Engine) -> tuple[int, float]:
        """See `Dialect.probe`."""
        with engine.connect() as connection, connection.execution_options(**self.read_options).begin():
            revision, seconds = connection.execute(_PROBE).one()
        return revision, float(seconds)

    def listener(self, url: str) -> None:
        """See `Dialect.listener`. SQLite cannot tell other processes of a change."""

    def exists(self, url: str) -> bool:
        """See `Dialect.exists`. An empty file is not a database."""
        with suppress(OSError):
            return _file_of(url).stat().st_size > 0
        return False

    def file_of(self, url: str) -> Path:
        """See `Dialect.file_of`."""
        return _file_of(url)

    def missing_here(self, url: str) -> Iterator[str]:
        """See `Dialect.missing_here`. Python has SQLite."""
        return iter(())

    def presence(self, url: str) -> Presence:
        """See `Dialect.presence`. The files are in a directory beside the database."""
        file = _file_of(url)
        return Presence(file.with_name(f".{file.name}-replicas"))

    def settle(self, engine: Engine) -> None:
        """See `Dialect.settle`. A checkpoint moves commits from the -wal to the database file.

        Otherwise all keys of a young store are in the -wal, and whoever copies or restores the database file alone loses them.
        PASSIVE does not wait for other processes (https://www.sqlite.org/pragma.html#pragma_wal_checkpoint).
        """
        with suppress(sqlite3.Error, SQLAlchemyError), closing(engine.raw_connection()) as connection:
            connection.cursor().execute("PRAGMA wal_checkpoint(PASSIVE)")

    def backup(self, url: str, target: Path) -> None:
        """See `Dialect.backup`: SQLite's backup API (https://www.sqlite.org/backup.html), into a file with mode 0600."""
        partial = target.with_name(f"{target.name}.partial")
        os.close(os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, _MODE))
        try:
            source = f"{_file_of(url).as_uri()}?mode=rw"  # not `ro`, which cannot create a missing -shm
            with (
                closing(sqlite3.connect(source, uri=True, timeout=self._busy_timeout)) as original,
                closing(sqlite3.connect(partial)) as copy,
            ):
                original.backup(copy)
                copy.execute("PRAGMA journal_mode = DELETE").close()  # one file, without a -wal beside it
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            os.link(partial, target)  # unlike a rename, this fails if the target exists
        except sqlite3.Error as e:
            raise StoreUnavailableError(f"the store cannot be copied: {e}") from e
        finally:
            partial.unlink()

    def lock_schema(self, connection: Connection) -> None:
        """See `Dialect.lock_schema`. BEGIN IMMEDIATE has already locked the whole database."""

    def reason_of(self, error: DBAPIError) -> str:
        """See `Dialect.reason_of`. SQLite names tables and columns, never values."""
        return str(error.orig)

    def upsert(self, table: Table, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Executable:
        """See `Dialect.upsert`."""
        statement = insert(table).values(**values)
        return statement.on_conflict_do_update(index_elements=list(table.primary_key), set_=dict(changes))


def _file_of(url: str) -> Path:
    return Path(make_url(url).database or "")


def _create_private(file: Path) -> None:
    """Create the file if it is missing, so that only its owner can read it. SQLite gives its -wal and -shm the same mode.

    A file that exists must not be opened here: closing it would release the locks that SQLite holds in this process
    (https://www.sqlite.org/howtocorrupt.html §2.2). Of other errors, such as a missing directory, SQLite reports the reason.
    """
    with suppress(OSError):
        os.close(os.open(os.path.realpath(file), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))


def _require_writable(file: Path) -> None:
    """Say what SQLite calls "unable to open database file". It writes beside the file, too.

    Raises:
        StoreUnavailableError: The file or its directory is read-only, for this user or altogether.
    """
    if file.exists() and not (os.access(file, os.R_OK | os.W_OK) and os.access(file.parent, os.W_OK | os.X_OK)):
        raise StoreUnavailableError("the store's file or its directory is read-only")


def _use_wal(cursor: Any, busy_timeout: float) -> None:
    """Switch the database to WAL.

    A database keeps this mode, so only its first switch can conflict with another process. SQLite does not apply the busy
    timeout to it.
    """
    end = time.monotonic() + busy_timeout
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE)
        else:
            return


def _identity(file: Path) -> tuple[int, int]:
    with suppress(OSError):
        found = file.stat()
        return found.st_dev, found.st_ino
    return (0, 0)
