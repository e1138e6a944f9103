"""The store on PostgreSQL 15 or newer, for the replicas of several hosts.

It needs no extension and no superuser. Transactions use no state of a session, so a PgBouncer with transaction pooling may be in
between. Only the listener for changes does, on a connection of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, Executable, Table, create_engine, event, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.engine.interfaces import ExceptionContext
from sqlalchemy.exc import DBAPIError

from sealwright.errors import ConfigurationError
from sealwright.keys.ports import StoreUnavailableError
from sealwright.sql.dialect import ANNOUNCEMENT, Listener
from sealwright.sql.postgres_connection import ANSWER_TIMEOUT, Connector, reason
from sealwright.sql.postgres_listener import CHANNEL, ChangeListener
from sealwright.sql.postgres_url import FILES, parameters
from sealwright.sql.presence import Presence

LOCK_TIMEOUT: Final = 3.0
"""Longest time in seconds that a transaction waits for the transaction of another process."""
_STATEMENT_TIMEOUT: Final = 5.0
_IDLE_TIMEOUT: Final = 10.0
"""A transaction whose process was stopped in the middle ends after so many seconds, and with it its locks."""
_MIGRATION_WAIT: Final = 60.0
_READ_ONLY: Final = "25006"
_SCHEMA_LOCK: Final = 0x7365616C  # any number that is the same for all processes
_NOT_INSTALLED: Final = "psycopg is not installed; run: pip install 'sealwright[postgres]'"
_CLOCK: Final = "extract(epoch FROM clock_timestamp())"
_STANDBY: Final = "pg_is_in_recovery()"
_PROBE: Final = text(f"SELECT revision, {_CLOCK}, {_STANDBY} FROM deployment")  # noqa: S608 - constants
_SINGLE: Final = "sealwright_single"
"""The option of a connection for one query on its own."""
_ANNOUNCE: Final = text(f"SELECT pg_notify('{CHANNEL}', '')")
_SETTINGS: Final = text(
    f"SELECT {_STANDBY}, set_config('statement_timeout', :statement, true), set_config('lock_timeout', :lock, true),"
    " set_config('idle_in_transaction_session_timeout', :idle, true)"
)


class PostgresDialect:
    """PostgreSQL by psycopg 3. See `sql.dialect.Dialect`."""

    clock: Executable = text(f"SELECT {_CLOCK}")
    read_options: Mapping[str, Any] = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    upgrades_at_start = False

    def __init__(self, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self._lock_timeout = lock_timeout

    def check_url(self, url: str) -> None:
        """See `Dialect.check_url`."""
        parameters(url)

    def open(self, url: str) -> Engine:
        """See `Dialect.open`.

        The limits of time are set in each transaction, because a pooler gives each transaction another session. That first query
        also shows whether the connection has died since its last use.

        A standby is not used: it may be behind, so reading it confirms nothing. After a failover the old primary may still have
        our connection.

        Raises:
            ConfigurationError: The driver is not installed.
        """
        try:
            connect = Connector(parameters(url))
            engine = create_engine(
                "postgresql+psycopg://",
                creator=connect,
                isolation_level="READ COMMITTED",
                pool_size=1,
                max_overflow=0,
                use_native_hstore=False,
                execution_options={ANNOUNCEMENT: _ANNOUNCE},
            )
        except ImportError:
            raise ConfigurationError([f"store.url: {_NOT_INSTALLED}"]) from None

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Connection) -> None:
            if connection.get_execution_options().get(_SINGLE):
                return
            _wait_for_answers(connection, ANSWER_TIMEOUT)
            standby, *_ = connection.execute(_SETTINGS, self._limits(self._lock_timeout, _STATEMENT_TIMEOUT)).one()
            if standby:
                raise _standby(connection)

        @event.listens_for(engine, "handle_error")
        def _on_error(context: ExceptionContext) -> None:
            if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
                context.is_disconnect = True  # the primary has changed

        return engine

    def probe(self, engine: Engine) -> tuple[int, float]:
        """See `Dialect.probe`.

        A transaction would cost three more round trips. The clock is read after the query has its snapshot of the row. A connection
        that has died since its last use is replaced.
        """
        try:
            return self._probe(engine)
        except DBAPIError as e:
            if not e.connection_invalidated:
                raise
            return self._probe(engine)

    @staticmethod
    def _probe(engine: Engine) -> tuple[int, float]:
        with engine.connect() as connection:
            single = connection.execution_options(isolation_level="AUTOCOMMIT", **{_SINGLE: True})
            _wait_for_answers(single, ANSWER_TIMEOUT)
            revision, seconds, standby = single.execute(_PROBE).one()
            if standby:
                raise _standby(single)
            return revision, float(seconds)

    def listener(self, url: str) -> Listener:
        """See `Dialect.listener`."""
        return ChangeListener(parameters(url))

    @staticmethod
    def _limits(lock: float, statement: float) -> dict[str, str]:
        seconds = {"lock": lock, "statement": statement, "idle": _IDLE_TIMEOUT}
        return {name: f"{round(value * 1000)}ms" for name, value in seconds.items()}

    def exists(self, url: str) -> bool:
        """See `Dialect.exists`. An administrator has created it; whether the tables are there is a matter of its schema."""
        return True

    def file_of(self, url: str) -> Path | None:
        """See `Dialect.file_of`."""
        return None

    def missing_here(self, url: str) -> Iterator[str]:
        """See `Dialect.missing_here`."""
        try:
            import_module("psycopg")
        except ImportError:
            yield _NOT_INSTALLED
        given = parameters(url)
        for name in FILES:
            path = given.get(name)
            if path is not None and path != "system" and not os.access(path, os.R_OK):
                yield f"{name}: {path}: does not exist, or this user may not read it"

    def presence(self, url: str) -> Presence | None:
        """See `Dialect.presence`. Replicas on other hosts cannot be watched; their claims end by themselves."""
        return None

    def settle(self, engine: Engine) -> None:
        """See `Dialect.settle`. A commit is durable where the database keeps it."""

    def backup(self, url: str, target: Path) -> None:
        """See `Dialect.backup`."""
        raise ConfigurationError(
            ["store.url: PostgreSQL has means of its own for backups, such as pg_dump; see docs/store.md"]
        )

    def lock_schema(self, connection: Connection) -> None:
        """See `Dialect.lock_schema`. A statement of a migration may take long, but not wait long: others would wait behind it."""
        _wait_for_answers(connection, None)
        connection.execute(_SETTINGS, self._limits(_MIGRATION_WAIT, 0))
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _SCHEMA_LOCK})
        connection.execute(_SETTINGS, self._limits(self._lock_timeout, 0))

    def reason_of(self, error: DBAPIError) -> str:
        """See `Dialect.reason_of`."""
        return reason(error.orig or error)

    def upsert(self, table: Table, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Executable:
        """See `Dialect.upsert`."""
        statement = insert(table).values(**values)
        return statement.on_conflict_do_update(constraint=table.primary_key, set_=dict(changes))


def _standby(connection: Connection) -> StoreUnavailableError:
    """Give a connection up, and return the reason."""
    connection.invalidate()
    return StoreUnavailableError("the database is a standby")


def _wait_for_answers(connection: Connection, seconds: float | None) -> None:
    """Limit the time that each answer of the database may take from now on."""
    driver: Any = connection.connection.driver_connection
    driver.answer_timeout = seconds
