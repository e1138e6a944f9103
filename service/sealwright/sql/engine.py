"""Engines and migrations."""

from __future__ import annotations

import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event, inspect

from sealwright.errors import ConfigurationError
from sealwright.sql.settings import StoreSettings

_MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT: Final = 5.0
"""Seconds that a transaction waits for another process's, at the most."""
_PAUSE: Final = 0.01


class StoreMovedError(Exception):
    """The database's file was deleted or replaced under its open connection."""


def open_engine(settings: StoreSettings, busy_timeout: float = BUSY_TIMEOUT) -> Engine:
    """Return an engine whose transactions are what `keys/ports.py` promises.

    SQLite begins IMMEDIATE, since a deferred transaction that reads and then writes fails with `database is locked` whatever
    the busy timeout (https://www.sqlite.org/lang_transaction.html), and syncs fully, since a commit that a power cut takes back
    would take back a key that verifiers have seen.

    A transaction on a file that is no longer where it was fails: SQLite would go on with the deleted one, and say nothing
    (https://www.sqlite.org/howtocorrupt.html §1.4).
    """
    # The driver's own timeout counts until the PRAGMA does.
    arguments = {"isolation_level": None, "check_same_thread": False, "timeout": busy_timeout}
    engine = create_engine(settings.url, connect_args=arguments)
    file = Path(engine.url.database or "")
    opened: list[tuple[int, int]] = []

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {round(busy_timeout * 1000)}")
        _use_wal(cursor, busy_timeout)
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        if not opened:
            opened.append(_identity(file))
        if _identity(file) != opened[0]:
            raise StoreMovedError("the store's file was deleted or replaced")
        reads = connection.get_execution_options().get("sealwright_read_only", False)
        connection.exec_driver_sql("BEGIN DEFERRED" if reads else "BEGIN IMMEDIATE")

    return engine


def _use_wal(cursor: Any, busy_timeout: float) -> None:
    """Switch to WAL, which a database remembers; only the very first switch can meet another one's, and SQLite waits for none."""
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


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def upgrade(engine: Engine) -> str:
    """Bring the schema up to date and return its revision. Processes that do so side by side wait for each other.

    Raises:
        ConfigurationError: The schema was made by a newer version, or the database is not ours.
    """
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        _check_known(connection, ScriptDirectory.from_config(config))
        command.upgrade(config, "head")
        return current_revision(connection) or ""


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision; None: an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    """Return the revision that this version of Sealwright works with."""
    return ScriptDirectory.from_config(_config()).get_current_head() or ""


def _check_known(connection: Connection, scripts: ScriptDirectory) -> None:
    revision = current_revision(connection)
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        newest = scripts.get_current_head()
        problem = f"the database is at revision {revision}, and this version of Sealwright ends with {newest}"
        raise ConfigurationError([f"store.url: {problem}: run the newer version"])
    if revision is None and inspect(connection).get_table_names():
        raise ConfigurationError(["store.url: the database has tables of something else"])
