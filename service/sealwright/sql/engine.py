"""Engines and migrations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, create_engine, event

from sealwright.sql.settings import StoreSettings

_MIGRATIONS = Path(__file__).parent / "migrations"
_BUSY_TIMEOUT_MS = 5000


def open_engine(settings: StoreSettings) -> Engine:
    """Return an engine whose transactions are what `keys/ports.py` promises.

    SQLite begins IMMEDIATE, since a deferred transaction that reads and then writes fails with `database is locked` whatever
    the busy timeout (https://www.sqlite.org/lang_transaction.html), and syncs fully, since a commit that a power cut takes back
    would take back a key that verifiers have seen.
    """
    engine = create_engine(settings.url, connect_args={"isolation_level": None, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _on_connect(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {_BUSY_TIMEOUT_MS}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        reads = connection.get_execution_options().get("sealwright_read_only", False)
        connection.exec_driver_sql("BEGIN DEFERRED" if reads else "BEGIN IMMEDIATE")

    return engine


def _config(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def upgrade(engine: Engine) -> str:
    """Bring the schema up to date and return its revision. Processes that do so side by side wait for each other."""
    with engine.begin() as connection:
        config = _config(connection)
        command.upgrade(config, "head")
        return current_revision(connection) or ""


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision; None: an empty database."""
    return MigrationContext.configure(connection).get_current_revision()


def newest_revision() -> str:
    """Return the revision that this version of Sealwright works with."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return ScriptDirectory.from_config(config).get_current_head() or ""
