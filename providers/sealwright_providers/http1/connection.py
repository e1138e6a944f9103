"""One client connection of HTTP/1.1 (RFC 9112), with one request at a time. httptools parses what the server sends."""

from __future__ import annotations

import asyncio
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple

import httptools

from sealwright_providers.dial import BadAnswerError, ConnectionDiedError

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 1024 * 1024
_FIRST_FINAL_STATUS: Final = 200


class Reply(NamedTuple):
    """An answer of the server.

    Attributes:
        status: Status code.
        headers: Header fields by name in lower case; the last one wins.
        body: Content, as it was sent: no content coding is asked for.
    """

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    def text(self, name: bytes) -> str | None:
        """Return a header field as text; None: the answer does not have it."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


def clock_error(date: bytes | None, now: datetime) -> float | None:
    """Return by how many seconds a clock is ahead of a server's Date (RFC 9110 §6.6.1); None: it is missing or no date."""
    try:
        return (now - parsedate_to_datetime((date or b"").decode("ascii"))).total_seconds()
    except (TypeError, ValueError):
        return None


class Connection(asyncio.Protocol):
    """A connection, from `asyncio` in to replies out.

    Attributes:
        used: Whether it has already carried an answer.
        idle_since: `loop.time()` when it became idle.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self._parser: Any = httptools.HttpResponseParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._body: list[bytes] = []
        self._size = 0
        self._trailers: int | None = None
        self._reusable = True
        self.used = False
        self.idle_since = 0.0
        self.on_lost: Any = None

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent."""
        return self._reusable and self._waiter is None and self._transport is not None

    async def exchange(self, message: bytes, timeout: float) -> Reply:
        """Send a request and return the answer.

        Args:
            message: Head and content of the request.
            timeout: Seconds that it may take.

        Raises:
            TimeoutError: The whole answer did not come in time. The connection is closed.
            ConnectionDiedError: The connection ended first.
            BadAnswerError: The answer is not HTTP/1.1, or too long.
        """
        if self._transport is None:
            raise ConnectionDiedError("the connection has ended")
        waiter = self._waiter = self._loop.create_future()
        self._transport.write(message)
        timer = self._loop.call_later(timeout, _expire, waiter)
        try:
            reply: Reply = await waiter
        except BaseException:
            # What comes later would be taken for the answer to another request.
            self.abort()
            raise
        finally:
            timer.cancel()
            self._waiter = None
        self.used = True
        return reply

    def abort(self) -> None:
        """Close the connection at once."""
        self._reusable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = transport  # type: ignore[assignment] # of a stream protocol

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name in asyncio
        """See asyncio.Protocol."""
        self._transport = None
        self._fail(ConnectionDiedError("the connection ended before the answer"))
        if self.on_lost is not None:
            self.on_lost(self)

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._waiter is None:
            self.abort()  # Nobody asked for it.
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade, BadAnswerError):
            self._fail(BadAnswerError("the answer is not HTTP/1.1, or too long"))
            self.abort()

    def on_message_begin(self) -> None:
        """See httptools."""
        if self._waiter is None or self._waiter.done():
            self._reusable = False  # A second answer to one request: what follows cannot be told apart.
        self._headers, self._body, self._size, self._trailers = {}, [], 0, None

    def on_header(self, name: bytes, value: bytes) -> None:
        """See httptools."""
        size = len(name) + len(value)
        if self._trailers is None:
            self._size += size
            self._headers[name.lower()] = value
        else:  # A trailer must not be taken for a header field (RFC 9110 §6.5.1).
            self._trailers += size
        if (self._trailers or self._size) > MAX_HEAD_BYTES:
            raise BadAnswerError

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._size, self._trailers = 0, 0

    def on_body(self, data: bytes) -> None:
        """See httptools."""
        self._size += len(data)
        if self._size > MAX_BODY_BYTES:
            raise BadAnswerError
        self._body.append(data)

    def on_message_complete(self) -> None:
        """See httptools."""
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL_STATUS:
            return  # An interim answer (RFC 9110 §15.2).
        if not self._parser.should_keep_alive():
            self._reusable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(Reply(status, self._headers, b"".join(self._body)))

    def _fail(self, error: Exception) -> None:
        self._reusable = False
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)


def _expire(waiter: asyncio.Future[Reply]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError("no answer in time"))
