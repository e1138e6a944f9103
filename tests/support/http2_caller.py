"""The client of a `Connection` of HTTP/2, on a transport that keeps what is written to it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sealwright.http2 import frames
from sealwright.http2.frames import ACK, END_STREAM, PREFACE, Code, Kind, Setting
from sealwright.server.http2.connection import Connection
from sealwright.server.http2.fields import Fields
from sealwright.server.http2.session import MalformedError
from sealwright.server.http2.stream import Stream
from sealwright.server.rpc.heads import TOO_LONG
from support.http2_peer import block

Frame = tuple[int, int, int, bytes]


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return frames.frame(kind, flags, stream, payload)


def head(stream: int, flags: int = END_STREAM, fields: bytes = block([(b":path", b"/x")])) -> bytes:
    return frames.header_block(stream, fields, flags)


def window(stream: int, more: int) -> bytes:
    return frame(Kind.WINDOW_UPDATE, 0, stream, frames.number(more))


def wants(name: Setting, value: int) -> bytes:
    return frames.settings([(name, value)])


def reset(stream: int, code: Code = Code.CANCEL) -> bytes:
    return frame(Kind.RST_STREAM, 0, stream, frames.number(code))


def prefixed(message: bytes, flag: int = 0) -> bytes:
    """Return a message of gRPC with its prefix."""
    return struct.pack(">BL", flag, len(message)) + message


class Wire(asyncio.Transport):
    """A transport that keeps what is written to it."""

    def __init__(self, tls: object) -> None:
        super().__init__({"ssl_object": tls})
        self.out = b""
        self.unsent = 0
        self.closed = False
        self.done: list[str] = []
        for name in ("pause_reading", "resume_reading", "close", "abort"):
            setattr(self, name, partial(self._do, name))

    def _do(self, name: str) -> None:
        self.done.append(name)
        self.closed |= name in {"close", "abort"}

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.closed
        self.out += data

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert (high, low) == (32 * 1024, None)


def read(fields: Fields) -> dict[bytes, bytes]:
    values = {bytes(name): bytes(value) for name, value in fields}
    if b":path" not in values:
        raise MalformedError
    return values


class Client:
    """The other side of a connection. Its clock moves only when a test moves it."""

    def __init__(
        self,
        *,
        greets: bool = True,
        tls: object = None,
        reads: Callable[[Fields], Any] = read,
        begin: Callable[[Stream], None] | None = None,
    ) -> None:
        self.now = 1000.0
        self.events: list[str] = []
        self.begun: list[Stream] = []
        self.wire = Wire(tls)
        self.connection = Connection(reads, TOO_LONG, begin or self.begun.append, lambda: self.now)
        self.connection.when_made = lambda: self.events.append("made")
        self.connection.when_lost = lambda: self.events.append("lost")
        self.connection.connection_made(self.wire)
        if greets:
            self.send(PREFACE + frames.settings(()))
            self.connection._session.outbox.flush()
            self.wire.out = b""

    def send(self, *data: bytes) -> None:
        self.connection.data_received(b"".join(data))

    def request(self, stream: int = 1, flags: int = END_STREAM) -> Stream:
        self.send(head(stream, flags))
        return self.begun[-1]

    async def got(self) -> list[Frame]:
        """Return the frames that the server has sent since the last call."""
        await asyncio.sleep(0)
        data, self.wire.out = self.wire.out, b""
        at, found = 0, []
        while at < len(data):
            size, (kind, flags, stream) = int.from_bytes(data[at : at + 3]), struct.unpack_from(">BBL", data, at + 3)
            at += frames.HEAD_BYTES + size
            found.append((kind, flags, stream, data[at - size : at]))
        return found

    async def got_exactly(self, *expected: bytes) -> bool:
        await asyncio.sleep(0)
        data, self.wire.out = self.wire.out, b""
        assert data == b"".join(expected)
        return True

    async def contents(self) -> list[bytes]:
        return [payload for kind, *_, payload in await self.got() if kind == Kind.DATA]


def goaway(last: int, code: Code = Code.NO_ERROR) -> bytes:
    return frame(Kind.GOAWAY, 0, 0, frames.number(last) + frames.number(code))


async def ended(client: Client, code: Code, last: int | None = None) -> bool:
    kind, _, stream, payload = (await client.got())[-1]
    assert (kind, stream, Code(frames.read_number(payload, 4))) == (Kind.GOAWAY, 0, code)
    assert last is None or frames.read_number(payload) == last
    return client.wire.closed


PING: Final = frame(Kind.PING, payload=b"12345678")
SETTINGS_ACK: Final = frame(Kind.SETTINGS, ACK)
FAREWELL: Final = frame(Kind.PING, payload=b"farewell")
