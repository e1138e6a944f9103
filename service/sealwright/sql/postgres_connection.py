"""Connections of psycopg that never wait for ever."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping
from typing import Any, Final

from sealwright.keys.ports import StoreUnavailableError

ANSWER_TIMEOUT: Final = 8.0
"""Longest time in seconds for an answer. The database's own limits are shorter, but it may not be there to obey them."""
_OLDEST: Final = 150000
_CONNECT: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    # A database that has vanished from the network is noticed within seconds, not after the kernel's quarter of an hour.
    "tcp_user_timeout": 8000,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "application_name": "sealwright",
}
_ALWAYS: Final[Mapping[str, Any]] = {
    "target_session_attrs": "read-write",  # of several hosts, the primary
    "prepare_threshold": None,  # a prepared statement is state of a session
}
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0


def arguments(given: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of every connection, with those of the store's URL."""
    return {**_CONNECT, **given, **_ALWAYS}


def require_known(connection: Any) -> None:
    """Check the version of the database.

    Raises:
        StoreUnavailableError: It is too old.
    """
    if connection.info.server_version < _OLDEST:
        raise StoreUnavailableError("the database is older than PostgreSQL 15")


def reason(error: BaseException) -> str:
    """Return in one line what the database said. The details of its messages are left out: they contain URIs of keys."""
    primary = getattr(getattr(error, "diag", None), "message_primary", None)
    return " ".join((primary or str(error) or type(error).__name__).split())


class Connector:
    """Connects to the database. While that fails, attempts become rare: a database that starts again is not stormed.

    The thread of the store alone uses it.
    """

    def __init__(self, given: Mapping[str, str]) -> None:
        self._connect = _connection_class().connect
        self._given = arguments(given)
        self._pause = 0.0
        self._next = 0.0

    def __call__(self) -> Any:
        """Return a connection of the driver.

        Raises:
            StoreUnavailableError: It is too early for another attempt, or the database is too old.
            psycopg.Error: There is no connection.
        """
        if time.monotonic() < self._next:
            raise StoreUnavailableError("the database cannot be reached; another attempt follows within seconds")
        try:
            connection = self._connect(**self._given)
        except Exception:
            self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            self._next = time.monotonic() + self._pause * random.uniform(0.5, 1)  # noqa: S311 - not a secret
            raise
        self._pause = self._next = 0.0
        try:
            require_known(connection)
        except StoreUnavailableError:
            connection.close()
            raise
        return connection


def is_silence(connection: Any, error: Any) -> bool:
    """Return whether `wait` has failed because the database did not answer in time.

    The driver's class for that is private. An error that the server has sent has an SQLSTATE, and after all others the connection
    is gone.
    """
    return error.sqlstate is None and not connection.closed


def _connection_class() -> Any:
    """Return a class of connections that end when the database does not answer in time.

    Raises:
        ImportError: psycopg is not installed.
    """
    import psycopg  # noqa: PLC0415 - an extra

    class BoundedConnection(psycopg.Connection[Any]):
        answer_timeout: float | None = ANSWER_TIMEOUT

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            """Wait for an answer. Every use of the connection does so here."""
            try:
                return super().wait(gen, interval, self.answer_timeout if timeout is None else timeout)
            except psycopg.OperationalError as error:
                if not is_silence(self, error):
                    raise
                self.pgconn.finish()  # an answer that comes later must not be taken for that of another question
                raise psycopg.OperationalError("the database does not answer") from None

    return BoundedConnection
