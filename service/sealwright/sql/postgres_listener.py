"""LISTEN: a replica hears of changes that other replicas make, on a connection of its own."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Any, Final

from sealwright.keys.ports import StoreUnavailableError
from sealwright.sql.postgres_connection import ANSWER_TIMEOUT, arguments, is_silence, reason, require_known

log = logging.getLogger(__name__)

CHANNEL: Final = "sealwright"
"""A channel belongs to one database. A notification has no payload, so those of one transaction count once."""
_CHECK: Final = 30.0
"""How often the connection is tried in seconds. A database that has stopped, or has become a standby, sends nothing."""
_FIRST_PAUSE: Final = 0.25
_LONGEST_PAUSE: Final = 5.0
_POOLER_PAUSE: Final = 60.0
_STATE: Final = "SELECT pg_backend_pid(), pg_is_in_recovery()"
_POOLER: Final = "a connection pooler is in between, and LISTEN needs a session of its own"


class _PoolerError(Exception):
    """The server process is not the one that the connection was announced for."""


class ChangeListener:
    """See `sql.dialect.Listener`."""

    def __init__(self, given: Mapping[str, str]) -> None:
        """Prepare.

        Args:
            given: The parameters of the store's URL.

        Raises:
            ImportError: psycopg is not installed.
        """
        self._connection_class, self._error = _driver()
        self._given = arguments(given)
        self._trouble: str | None = None

    async def run(self, on_change: Callable[[], None]) -> None:
        """See `Listener.run`. The log has one line when notifications fail to come, and one when they come again."""
        pause = 0.0
        while True:
            try:
                connection = await self._connection_class.connect(**self._given, autocommit=True)
                try:
                    await self._begin(connection)
                    pause = 0.0
                    self._say(None)
                    on_change()  # what happened before is not sent again
                    await self._follow(connection, on_change)
                finally:
                    await connection.close()
            except _PoolerError:
                self._say(_POOLER)
                pause = _POOLER_PAUSE
            except (self._error, StoreUnavailableError, OSError) as error:
                self._say(reason(error))
                pause = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # noqa: S311 - not a secret

    async def _begin(self, connection: Any) -> None:
        require_known(connection)
        await self._check(connection)  # before LISTEN, which a pooler would leave behind in a session of others
        await connection.execute(f"LISTEN {CHANNEL}")

    async def _follow(self, connection: Any, on_change: Callable[[], None]) -> None:
        while True:
            async for _ in connection.notifies(timeout=_CHECK):
                on_change()
            await self._check(connection)

    @staticmethod
    async def _check(connection: Any) -> None:
        """Check that the connection is still one to the primary, and to one process of it.

        A pooler announces a number of its own in place of that of the server's process (BackendKeyData in
        https://www.postgresql.org/docs/current/protocol-flow.html).
        """
        pid, standby = await (await connection.execute(_STATE)).fetchone()
        if pid != connection.info.backend_pid:
            raise _PoolerError
        if standby:
            raise StoreUnavailableError("the database is a standby")

    def _say(self, trouble: str | None) -> None:
        """Log what has changed. The reasons of two attempts may differ, but they are one trouble."""
        if trouble is not None and self._trouble is None:
            log.warning("changes by other replicas are noticed at the next refresh_interval only: %s", trouble)
        elif trouble is None and self._trouble is not None:
            log.info("changes by other replicas are noticed at once again")
        self._trouble = trouble


def _driver() -> tuple[Any, type[Exception]]:
    """Return a class of connections whose queries end in time, and the class of the driver's errors.

    Raises:
        ImportError: psycopg is not installed.
    """
    import psycopg  # noqa: PLC0415 - an extra

    class ListeningConnection(psycopg.AsyncConnection[Any]):
        async def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            """Wait for an answer or a notification. Every use of the connection does so here.

            The driver would look ten times a second whether it was interrupted, which only matters outside of an event loop.
            """
            if timeout is not None:
                return await super().wait(gen, timeout, timeout)
            try:
                return await super().wait(gen, ANSWER_TIMEOUT, ANSWER_TIMEOUT)
            except psycopg.OperationalError as error:
                if not is_silence(self, error):
                    raise
                self.pgconn.finish()
                raise psycopg.OperationalError("the database does not answer") from None

    return ListeningConnection, psycopg.Error
