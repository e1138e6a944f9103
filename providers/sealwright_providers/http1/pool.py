"""A pool of connections to one server.

A failure on a connection that was used before says nothing about the server: a gateway, a load balancer or a restart may have
ended all old connections at once. Then the pool closes every idle one and sends the request once more, on a new connection, if the
request may be repeated (RFC 9112 §9.3.1). Only what happens on a new connection is a failure of the server.
"""

from __future__ import annotations

import asyncio
import math
import time
from datetime import UTC, datetime
from typing import Final

from sealwright_providers.dial import ConnectionDiedError, Dialer, PoolClosedError, Server
from sealwright_providers.http1.connection import Connection, Reply, clock_error

IDLE_SECONDS: Final = 60.0
"""How long a connection is kept that nobody uses."""
_LEAVE_SECONDS: Final = 1.0
"""Shortest time between two times that idle connections are closed because a request got no answer."""


class Pool:
    """Connections to one server. It does not limit their number, since the guard around a provider limits the calls."""

    def __init__(self, server: Server) -> None:
        self._loop = asyncio.get_running_loop()
        self._dialer = Dialer(server, Connection)
        self._idle: dict[Connection, None] = {}
        self._busy: set[Connection] = set()
        self._left = -math.inf
        self._date: tuple[bytes | None, float] = (None, 0.0)
        self.closed = False

    def time_error(self) -> float | None:
        """Return by how many seconds this machine's clock was ahead of the server's at the last answer; None: it did not say."""
        date, at = self._date
        return clock_error(date, datetime.fromtimestamp(at, UTC))

    async def request(self, message: bytes, *, timeout: float, repeatable: bool) -> Reply:
        """Send a request and return the answer.

        Args:
            message: Head and content, complete.
            timeout: Seconds that it may take.
            repeatable: Whether the server may get it twice. If not, it goes over a new connection, which cannot be a dead one.

        Raises:
            TimeoutError: The server did not answer in time.
            OSError: The server cannot be reached, or ended the connection.
            BadAnswerError: The answer is not HTTP/1.1, or too long.
        """
        if self.closed:
            raise PoolClosedError("the pool is closed")
        start = self._loop.time()
        end = start + timeout
        used = self._take(start) if repeatable else None
        if used is not None:
            try:
                return await self._exchange(used, message, timeout)
            except ConnectionDiedError:
                self.close_idle()
            except TimeoutError:
                self._suspect(start)
                raise
            if self.closed:
                raise PoolClosedError("the pool is closed")
        async with asyncio.timeout_at(end):
            fresh = await self._dialer.open()
        return await self._exchange(fresh, message, end - self._loop.time())

    def _suspect(self, sent: float) -> None:
        """Close the idle connections that have brought no answer since a request was sent that got none.

        The server may be slow, or a middlebox swallows what old connections send: the next requests find out. Not more often than
        once a second: callers with very short deadlines must not close the connections that others use again and again.
        """
        now = self._loop.time()
        if now - self._left < _LEAVE_SECONDS:
            return
        self._left = now
        for connection in [c for c in self._idle if c.idle_since <= sent]:
            del self._idle[connection]
            connection.abort()

    def close_idle(self) -> None:
        """Close all connections that nobody uses now."""
        for connection in list(self._idle):
            connection.abort()
        self._idle.clear()

    async def aclose(self) -> None:
        """Close all connections. Requests under way fail. May be called twice."""
        self.closed = True
        self.close_idle()
        for connection in list(self._busy):
            connection.abort()

    def _take(self, now: float) -> Connection | None:
        """Return the connection that became idle last; None: there is none."""
        while self._idle:
            connection, _ = self._idle.popitem()
            if connection.reusable and now - connection.idle_since < IDLE_SECONDS:
                return connection
            connection.abort()
        return None

    async def _exchange(self, connection: Connection, message: bytes, timeout: float) -> Reply:
        self._busy.add(connection)
        try:
            reply = await connection.exchange(message, timeout)
        finally:
            self._busy.discard(connection)
        self._give_back(connection)
        self._date = reply.headers.get(b"date"), time.time()
        return reply

    def _give_back(self, connection: Connection) -> None:
        if self.closed or not connection.reusable:
            connection.abort()
            return
        now = self._loop.time()
        connection.idle_since = now
        connection.on_lost = self._forget
        self._idle[connection] = None
        oldest = next(iter(self._idle))
        if now - oldest.idle_since >= IDLE_SECONDS:
            del self._idle[oldest]
            oldest.abort()

    def _forget(self, connection: Connection) -> None:
        self._idle.pop(connection, None)
