"""One request and its answer: a stream of HTTP/2 (RFC 9113 §5)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Protocol

from sealwright.http2.frames import Code


class Carrier(Protocol):
    """The connection of a stream, as the stream sees it."""

    def send(self, stream: Stream) -> None:
        """Send what the stream has to send, as far as the windows permit."""
        ...

    def allow(self, stream: Stream, size: int) -> None:
        """Let the peer send more bytes of the request."""
        ...

    def end(self, stream: Stream, code: Code) -> None:
        """Reset the stream."""
        ...


def nothing() -> None:
    """Do nothing."""


class Stream:
    """A request and its answer.

    Attributes:
        connection: What carries it.
        number: Its identifier.
        head: What was read from its header fields.
        complete: Whether the whole request has come.
        open: Whether an answer can still be sent.
        deadline: Reading of the clock of the connection at which `on_expiry` is called.
        on_lost: Called once if the peer resets it or the connection ends.
        on_expiry: Called once when its deadline has passed.
        credit: Bytes that the peer may still send.
        window: Bytes that the peer takes now.
        fields: Header blocks that wait to be sent before the content.
        unsent: Content that is to be sent.
        sent: How many bytes of it have been sent.
        held: How many bytes of it the outbox counts as held.
        trailers: The last header block; None: the answer goes on.
        idle: Whether it waits for news and not for work.
    """

    __slots__ = (
        "_arrival",
        "_parts",
        "_room",
        "complete",
        "connection",
        "credit",
        "deadline",
        "fields",
        "head",
        "held",
        "idle",
        "number",
        "on_expiry",
        "on_lost",
        "open",
        "sent",
        "trailers",
        "unsent",
        "window",
    )

    def __init__(self, connection: Carrier, number: int, head: Any, credit: int, window: int) -> None:
        self.connection = connection
        self.number = number
        self.head = head
        self.credit = credit
        self.window = window
        self.complete = False
        self.open = True
        self.idle = False
        self.deadline = math.inf
        self.on_lost: Callable[[], object] = nothing
        self.on_expiry: Callable[[], object] = nothing
        self.fields = b""
        self.unsent = b""
        self.sent = self.held = 0
        self.trailers: bytes | None = None
        self._parts: list[bytes] = []
        self._arrival: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    def feed(self, data: bytes, *, last: bool) -> None:
        """Take a piece of the request."""
        if data:
            self._parts.append(data)
        self.complete = last
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def take(self) -> bytes:
        """Return the content that has come since the last call."""
        parts = self._parts
        if not parts:
            return b""
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        return data

    async def arrival(self) -> None:
        """Wait until more of the request has come, or its end."""
        if not self._parts and not self.complete:
            self._arrival = asyncio.get_running_loop().create_future()
            await self._arrival

    def allow(self, size: int) -> None:
        """Let the peer send so many bytes beyond what it has sent."""
        if size > self.credit and not self.complete:
            self.connection.allow(self, size - self.credit)

    def answer(self, fields: bytes, data: bytes, trailers: bytes | None) -> None:
        """Send a part of the answer. Nothing happens if nobody waits for it any longer.

        Args:
            fields: Header block; empty: none.
            data: Content.
            trailers: The block that ends the answer; None: the answer goes on.
        """
        if self.open:
            self.fields += fields
            self.unsent = self.unsent[self.sent :] + data if self.unsent else data
            self.sent = 0
            self.trailers = trailers
            if trailers is not None:
                self.deadline = math.inf  # From now on it waits for the peer alone.
            self.connection.send(self)

    async def taken(self) -> None:
        """Wait until the peer has taken all that was to be sent."""
        while self.unsent and self.open:
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def made_room(self) -> None:
        """Go on after content has been sent."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def reset(self, code: Code) -> None:
        """End it without an answer."""
        if self.open:
            self.connection.end(self, code)

    def close(self) -> None:
        """Mark it as closed, and let nobody wait any longer."""
        self.open = False
        self.made_room()
        self.on_expiry = nothing
        lost, self.on_lost = self.on_lost, nothing
        lost()
