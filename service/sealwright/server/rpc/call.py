"""One call of gRPC: messages in and out, and its end (gRPC over HTTP/2)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import math
import struct
import time
import zlib
from typing import Any, Final

from google.rpc.code_pb2 import Code  # type: ignore[import-untyped]

from sealwright.server.http2.stream import Stream
from sealwright.server.peers import Peer
from sealwright.server.rpc import heads
from sealwright.server.rpc.heads import Head, Refusal

MAX_MESSAGE: Final = 2 * 1024 * 1024 + 64 * 1024
"""Most bytes of a message: those of a batch."""

_PREFIX: Final = struct.Struct(">BL")
_COMPRESSED: Final = 1
_PATIENCE_SECONDS: Final = 0.5
_WINDOW_BITS: Final = {b"gzip": 31, b"deflate": 15}


class UnreadableMessageError(Exception):
    """A message cannot be received.

    Attributes:
        code: The status code that gRPC has for that.
        message: Why.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Call:
    """A call under way.

    Attributes:
        path: The service and the method.
        left: Seconds that its caller gave it; None: there is no deadline.
        peer: Who is behind the connection.
        complete: Whether the whole request has come.
    """

    __slots__ = ("_begun", "_buffer", "_encoding", "_end", "_stream", "left", "path", "peer")

    def __init__(self, stream: Stream, peer: Peer) -> None:
        head: Head = stream.head
        self._stream = stream
        self._buffer = b""
        self._begun = False
        self._end = math.inf
        self._encoding = head.encoding
        self.path = head.path
        self.left = head.timeout
        self.peer = peer

    @property
    def complete(self) -> bool:
        """Whether the whole request has come."""
        return self._stream.complete

    def run(self, task: asyncio.Task[Any], seconds: float) -> None:
        """Tie a task to the call: it is cancelled when the caller leaves, or has waited for too long.

        Args:
            task: It answers the call.
            seconds: How long the call may take.
        """

        def expire() -> None:
            self.fail(Code.DEADLINE_EXCEEDED, "the deadline has passed")
            task.cancel()

        now = time.monotonic()
        self._stream.on_lost = task.cancel
        self._stream.on_expiry = expire
        self._stream.deadline = now + seconds
        self._end = math.inf if self.left is None else now + self.left

    def whole(self, most: int) -> bytes | None:
        """Return the only message, if all of it has come and it is short; None: `read` it.

        Args:
            most: Bytes up to which it is short.
        """
        stream = self._stream
        if not stream.complete or self._buffer:
            return None
        data = stream.take()
        size = len(data) - _PREFIX.size
        if not 0 <= size <= most or _PREFIX.unpack_from(data) != (0, size):
            self._buffer = data
            return None
        return data[_PREFIX.size :]

    def wait_for_news(self) -> None:
        """Let the call last until its caller's deadline. It counts as idle from now on."""
        self._stream.idle = True
        self._stream.deadline = self._end

    async def read(self, most: int = MAX_MESSAGE) -> bytes | None:
        """Return the next message; None: there is no more.

        Args:
            most: Bytes that it may have.

        Raises:
            UnreadableMessageError: The message cannot be received. The call is to fail.
        """
        stream = self._stream
        while True:
            self._buffer += stream.take()
            size = self._size(most)
            if size is not None and len(self._buffer) >= _PREFIX.size + size:
                message = self._buffer[_PREFIX.size : _PREFIX.size + size]
                compressed = self._buffer[0] == _COMPRESSED
                self._buffer = self._buffer[_PREFIX.size + size :]
                return self._decompressed(message, most) if compressed else message
            if stream.complete:
                return None
            await self._more(_PREFIX.size if size is None else _PREFIX.size + size)

    async def _more(self, wanted: int) -> None:
        """Wait for bytes until the buffer has as many as are wanted, or the request ends."""
        stream, parts, size = self._stream, [self._buffer], len(self._buffer)
        while size < wanted:
            stream.allow(wanted - size)  # Again, since padding and our settings take some of it away.
            await stream.arrival()
            data = stream.take()
            parts.append(data)
            size += len(data)
            if stream.complete:
                break
        self._buffer = b"".join(parts)

    def _size(self, most: int) -> int | None:
        if len(self._buffer) < _PREFIX.size:
            return None
        compressed, size = _PREFIX.unpack_from(self._buffer)
        if compressed > _COMPRESSED or (compressed and self._encoding not in _WINDOW_BITS):
            raise UnreadableMessageError(Code.INTERNAL, "the message has a wrong prefix")
        if size > most:
            raise UnreadableMessageError(Code.RESOURCE_EXHAUSTED, f"the message has more than {most} bytes")
        return int(size)

    def _decompressed(self, message: bytes, most: int) -> bytes:
        decompressor = zlib.decompressobj(_WINDOW_BITS[self._encoding])
        try:
            data = decompressor.decompress(message, most + 1)
        except zlib.error:
            raise UnreadableMessageError(Code.INTERNAL, "the message cannot be decompressed") from None
        if len(data) > most:
            raise UnreadableMessageError(Code.RESOURCE_EXHAUSTED, f"the message has more than {most} bytes")
        if not decompressor.eof:
            raise UnreadableMessageError(Code.INTERNAL, "the message cannot be decompressed")
        return data

    def answer(self, message: bytes) -> None:
        """Answer with the only message, and end."""
        begin, self._begun = b"" if self._begun else heads.BEGIN, True
        self._stream.answer(begin, _PREFIX.pack(0, len(message)) + message, heads.OK)

    def tell(self, message: bytes) -> None:
        """Send one of many messages. A caller that has not taken the one before is not waited for: its call ends."""
        if self._stream.unsent:
            self._stream.reset(Code.ENHANCE_YOUR_CALM)
            return
        begin, self._begun = b"" if self._begun else heads.BEGIN, True
        self._stream.answer(begin, _PREFIX.pack(0, len(message)) + message, None)

    async def write(self, message: bytes) -> None:
        """Send one of many messages, and wait until the caller has taken it."""
        self.tell(message)
        await self._stream.taken()

    def end(self) -> None:
        """End after the last of many messages."""
        begin, self._begun = b"" if self._begun else heads.BEGIN, True
        self._stream.answer(begin, b"", heads.OK)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer a request that cannot be served as a call.

        Not before its message has begun to come: clients that are about to send one report a failure of their own instead.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await self._stream.arrival()
        if refusal.block:
            self._stream.answer(b"", b"", refusal.block)
        else:
            self.fail(refusal.code, refusal.message)

    def fail(self, code: int, message: str, details: bytes = b"") -> None:
        """End with an error.

        Args:
            code: The status code.
            message: The status message.
            details: A serialized `google.rpc.Status`; empty: none.
        """
        encoded = (base64.b64encode(details).rstrip(b"="),) if details else ()
        block = heads.status_block(code, message, encoded, first=not self._begun)
        self._stream.answer(b"", b"", block)
