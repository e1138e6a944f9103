"""A server of HTTP/2 that does what a test says, frame by frame."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Self

import hpack

from sealwright.http2 import frames
from sealwright.http2.frames import Kind, Setting

Headers = list[tuple[bytes, bytes]]
OK: Headers = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS: Headers = [(b"grpc-status", b"0")]


def block(fields: Headers) -> bytes:
    """Return an encoded block that uses no table of its own."""
    return b"".join(frames.header_field(name, value) for name, value in fields)


def answer(stream: int, data: bytes = b"ok") -> bytes:
    """Return the frames of a whole answer."""
    return (
        frames.frame(Kind.HEADERS, frames.END_HEADERS, stream, block(OK))
        + frames.frame(Kind.DATA, 0, stream, data)
        + frames.frame(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, stream, block(TRAILERS))
    )


class Side:
    """The server's side of one connection. It checks what the client may not do."""

    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.peer = peer
        self.reader = reader
        self.writer = writer
        self.frames: list[tuple[int, int, int, bytes]] = []
        self.bodies: dict[int, bytes] = {}
        self.heads: dict[int, dict[bytes, bytes]] = {}
        self.decoder = hpack.Decoder()
        self.decoder.max_allowed_table_size = peer.table
        self.window = frames.DEFAULT_WINDOW + peer.connection_credit
        self.windows: dict[int, int] = {}

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def kinds(self) -> list[int]:
        return [kind for kind, *_ in self.frames]

    def grant(self, stream: int, more: int) -> None:
        """Let the client send more."""
        for one in (0, stream):
            self.send(frames.frame(Kind.WINDOW_UPDATE, 0, one, frames.number(more)))
        self.window += more
        self.windows[stream] += more

    async def run(self) -> None:
        assert await self.reader.readexactly(len(frames.PREFACE)) == frames.PREFACE
        self.send(self.peer.hello)
        head = b""
        while True:
            begin = await self.reader.readexactly(frames.HEAD_BYTES)
            size, kind, flags, stream = frames.head(begin, 0)
            payload = await self.reader.readexactly(size)
            self.frames.append((kind, flags, stream, payload))
            if kind in {Kind.HEADERS, Kind.CONTINUATION}:
                head = payload if kind == Kind.HEADERS else head + payload
                self.windows[stream] = self.peer.initial_window
                if flags & frames.END_HEADERS:
                    if self.windows[stream] < 1 and self.peer.credit:
                        self.grant(stream, self.peer.credit)
                    self.heads[stream] = {bytes(k): bytes(v) for k, v in self.decoder.decode(head, raw=True)}
            if kind == Kind.DATA:
                self.window -= size
                self.windows[stream] -= size
                assert min(self.window, self.windows[stream]) >= 0, "the client sent more than it may"
                self.bodies[stream] = self.bodies.get(stream, b"") + payload
                if self.peer.credit:
                    self.grant(stream, self.peer.credit)
                if flags & frames.END_STREAM:
                    await self.peer.on_request(self, stream)


class Peer:
    """A server on loopback.

    Attributes:
        on_request: Called when a whole request has come.
        hello: What is sent first.
        initial_window: As the settings in `hello` say.
        credit: Bytes that are granted after each DATA frame.
        sides: The connections so far.
    """

    def __init__(self, on_request: Callable[[Side, int], Awaitable[None]], *settings: tuple[int, int]) -> None:
        self.on_request = on_request
        self.hello = frames.settings(settings)
        self.initial_window = dict(settings).get(Setting.INITIAL_WINDOW_SIZE, frames.DEFAULT_WINDOW)
        self.table = dict(settings).get(Setting.HEADER_TABLE_SIZE, 4096)
        self.connection_credit = 0
        self.credit = 0
        self.sides: list[Side] = []
        self.failures: list[BaseException] = []
        self.port = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def stop_listening(self) -> None:
        """Refuse new connections."""
        self._server.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop_listening()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)
        assert not self.failures, self.failures

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        side = Side(self, reader, writer)
        self.sides.append(side)
        try:
            await side.run()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            pass  # In Python 3.11 the server logs tasks that were cancelled.
        except AssertionError as e:
            self.failures.append(e)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()  # `close` would wait for a client that does not read.
