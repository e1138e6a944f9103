"""Connections to one server: usually one, which all requests share.

A failure on a connection that was used before says nothing about the server: a gateway, a load balancer or a restart may have ended
it. Then the request goes over another connection once more, if it may be repeated (RFC 9113 §8.7, RFC 9110 §9.2.2). If a request
gets no answer in its time, and nothing else came over the connection meanwhile, the connection may be dead without a word: the
requests after it use a new one.
"""

from __future__ import annotations

import asyncio
from typing import Final

from sealwright_providers.dial import ConnectionDiedError, Dialer, PoolClosedError, Server
from sealwright_providers.http2.connection import Connection
from sealwright_providers.http2.requests import Answer, NotProcessedError

IDLE_SECONDS: Final = 60.0
"""A connection over which nothing has come for so long is not used again."""
_DIAL_SECONDS: Final = 10.0
"""What TCP, TLS and a name server may take together. Requests that cannot wait so long leave it to those after them."""
_TRIES: Final = 3


class Pool:
    """Connections to one server. Belongs to the event loop that it is used in."""

    def __init__(self, server: Server) -> None:
        self._dialer: Dialer[Connection] = Dialer(server, Connection)
        self._all: dict[Connection, None] = {}
        self._dialling: asyncio.Task[Connection] | None = None
        self.closed = False

    async def request(self, block: bytes, body: bytes, *, timeout: float, repeatable: bool) -> Answer:
        """Send a request and return the answer.

        Args:
            block: Its header fields, encoded as literals.
            body: Its content.
            timeout: Seconds that it may take.
            repeatable: Whether the server may get it twice.

        Raises:
            TimeoutError: The server did not answer in time.
            OSError: The server cannot be reached, or ended the connection.
            StreamResetError: The server ended the request.
            BadAnswerError: The answer is not HTTP/2, or too long.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        end = now + timeout
        attempt = 1
        while True:
            connection = self._ready(now)
            if connection is None:
                connection = await self._fresh(end)
                now = loop.time()
            try:
                return await connection.exchange(block, body, end - now)
            except ConnectionDiedError as error:
                if self.closed:
                    raise PoolClosedError("the pool is closed") from None
                may = isinstance(error, NotProcessedError) or (connection.used and repeatable)
                if not may or attempt == _TRIES:
                    raise
            except (TimeoutError, asyncio.CancelledError):
                if connection.received <= now and loop.time() >= end:
                    connection.retire()
                raise
            attempt += 1
            now = loop.time()

    async def aclose(self) -> None:
        """Close all connections. Requests under way fail. May be called twice."""
        self.closed = True
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait((self._dialling,))
        for connection in list(self._all):
            connection.abort()

    def _ready(self, now: float) -> Connection | None:
        """Return a connection that can take a request; None: there is none."""
        for connection in self._all:
            if not connection.has_room:
                continue
            if now - connection.received >= IDLE_SECONDS:
                connection.retire()
                continue
            return connection
        return None

    async def _fresh(self, end: float) -> Connection:
        """Return a new connection, which others may be waiting for as well."""
        while True:
            if self.closed:
                raise PoolClosedError("the pool is closed")
            dialling = self._dialling
            if dialling is None:
                dialling = self._dialling = asyncio.ensure_future(self._dial())
                dialling.add_done_callback(self._dialled)
            left = end - asyncio.get_running_loop().time()
            done, _ = await asyncio.wait((dialling,), timeout=max(0.0, left))
            if not done:
                raise TimeoutError("no connection in time")
            if dialling.cancelled():
                raise PoolClosedError("the pool is closed")
            connection = dialling.result()
            if connection.has_room:
                return connection

    async def _dial(self) -> Connection:
        async with asyncio.timeout(_DIAL_SECONDS):
            connection = await self._dialer.open()
        connection.received = asyncio.get_running_loop().time()
        connection.on_lost = self._forget
        if self.closed:
            connection.abort()
        if not connection.usable:
            raise ConnectionDiedError("the connection ended at once, or its server does not speak HTTP/2")
        self._all[connection] = None
        return connection

    def _dialled(self, task: asyncio.Task[Connection]) -> None:
        self._dialling = None
        if not task.cancelled():
            task.exception()  # Those who waited have it; there may be none.

    def _forget(self, connection: Connection) -> None:
        self._all.pop(connection, None)
