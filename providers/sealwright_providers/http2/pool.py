"""Connections to one server: usually one, which all requests share.

A failure on a connection that was used before says nothing about the server: a gateway, a load balancer or a restart may have ended
it. Then the request goes over another connection once more, if it may be repeated (RFC 9113 §8.7, RFC 9110 §9.2.2). If a request
gets no answer in its time, and nothing else came over the connection meanwhile, the connection may be dead without a word: the
requests after it use a new one.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from sealwright_providers.dial import ConnectionDiedError, Dialer, PoolClosedError, Server
from sealwright_providers.http2.connection import Connection
from sealwright_providers.http2.requests import Answer, NotProcessedError

IDLE_SECONDS: Final = 60.0
"""A connection over which nothing has come for so long is not used again."""
_DIAL_SECONDS: Final = 10.0
"""What TCP, TLS and a name server may take together. Requests that cannot wait so long leave it to those after them."""
_TRIES: Final = 3
_LEAVE_SECONDS: Final = 1.0
"""Shortest time between two times that connections are left because a request got no answer."""
_ROUNDING_SECONDS: Final = 0.002
"""uvloop counts in milliseconds, so that a deadline can pass a little before its time."""


class Pool:
    """Connections to one server. Belongs to the event loop that it is used in."""

    def __init__(self, server: Server) -> None:
        self._dialer: Dialer[Connection] = Dialer(server, Connection)
        self._all: dict[Connection, None] = {}
        self._dialling: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._swept = self._left = -math.inf
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
        attempt, repeated = 1, False
        while True:
            connection = self._ready(now)
            if connection is None:
                connection = await self._wait(end)
                now = loop.time()
            used = connection.used  # before the request: others share the connection
            try:
                return await connection.exchange(block, body, end - now)
            except ConnectionDiedError as error:
                if self.closed:
                    raise PoolClosedError("the pool is closed") from None
                unseen = isinstance(error, NotProcessedError)
                if attempt == _TRIES or not (unseen or (used and repeatable and not repeated)):
                    raise
                if not unseen:
                    repeated = True
                    self._retire_silent(now)  # else the request may go over another one that has died
            except TimeoutError:
                self._suspect(connection, now)
                raise
            except asyncio.CancelledError:
                if loop.time() >= end - _ROUNDING_SECONDS:
                    self._suspect(connection, now)
                raise
            attempt += 1
            now = loop.time()

    async def aclose(self) -> None:
        """Close all connections. Requests under way fail. May be called twice."""
        self.closed = True
        for connection in list(self._all):
            connection.abort()
        if self._dialling is not None:
            self._dialling.cancel()
            await asyncio.wait((self._dialling,))

    def _ready(self, now: float) -> Connection | None:
        """Return a connection that can take a request; None: there is none."""
        if now - self._swept >= IDLE_SECONDS / 2:
            self._swept = now
            for connection in list(self._all):
                if connection.idle and now - connection.received >= IDLE_SECONDS:
                    connection.retire()
        for connection in self._all:
            if connection.has_room and not (connection.idle and now - connection.received >= IDLE_SECONDS):
                return connection
        return None

    def _suspect(self, connection: Connection, sent: float) -> None:
        """Leave the connections over which nothing has come since a request was sent that got no answer.

        Not more often than once a second: callers with very short deadlines must not close the connection that others use.
        """
        now = asyncio.get_running_loop().time()
        if connection.received > sent or now - self._left < _LEAVE_SECONDS:
            return
        self._left = now
        self._retire_silent(sent)

    def _retire_silent(self, since: float) -> None:
        for one in list(self._all):
            if one.received <= since:
                one.retire()

    async def _wait(self, end: float) -> Connection:
        """Wait for a new connection, or for room on another one, and return it.

        Raises:
            TimeoutError: There was neither in time.
            OSError: The server cannot be reached, and no connection is left.
            BadAnswerError: The server does not speak HTTP/2.
        """
        loop = asyncio.get_running_loop()
        failure: BaseException | None = None
        while True:
            if self.closed:
                raise PoolClosedError("the pool is closed")
            connection = self._ready(loop.time())
            if connection is not None:
                return connection
            if failure is not None and not any(c.usable for c in self._all):
                raise failure
            if self._room is None or self._room.done():
                self._room = loop.create_future()
            waits: set[asyncio.Future[None]] = {self._room}
            if failure is None:
                waits.add(self._dial_once(loop))
            left = max(0.0, end - loop.time())
            done, _ = await asyncio.wait(waits, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise TimeoutError("no connection in time")
            for dialling in done - {self._room}:
                failure = None if dialling.cancelled() else dialling.exception()

    def _dial_once(self, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
        """Return the dial under way, which others may be waiting for as well."""
        if self._dialling is None:
            self._dialling = loop.create_task(self._dial())
            self._dialling.add_done_callback(self._dialled)
        return self._dialling

    async def _dial(self) -> None:
        async with asyncio.timeout(_DIAL_SECONDS):
            connection = await self._dialer.open()
            try:
                # Not before: the server may permit fewer requests at a time than we would send.
                await connection.greeted
            except BaseException:
                connection.abort()
                raise
        if self.closed or not connection.has_room:
            connection.abort()
            raise ConnectionDiedError("the server takes no requests")
        connection.received = asyncio.get_running_loop().time()
        connection.on_lost, connection.on_room = self._forget, self._made_room
        self._all[connection] = None

    def _dialled(self, task: asyncio.Task[None]) -> None:
        self._dialling = None
        if not task.cancelled():
            task.exception()  # Those who waited have it; there may be none.

    def _forget(self, connection: Connection) -> None:
        self._all.pop(connection, None)
        self._made_room()  # or none is left that could have any

    def _made_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
