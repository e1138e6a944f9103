"""HTTP/2 frame by frame, for gRPC clients that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
_MAX_FRAME = 16_384


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def headers(path: str) -> bytes:
    """Return the header block of a gRPC call."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers"}
    fields["content-type"] = "application/grpc"
    return b"".join(_literal(name.encode(), value.encode()) for name, value in fields.items())


class RawConnection:
    """A connection that sends as much of each message as the server lets it, and then stops.

    Attributes:
        sent: Bytes of messages that were sent.
        ended: Numbers of the streams that the server has ended.
        closed: Whether the server has closed the connection.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.ended: set[int] = set()
        self.closed = False
        self._left: dict[int, memoryview] = {}
        self._windows = {0: 65_535}
        self._initial = 65_535
        self._most = 100
        self._settled = asyncio.Event()

    async def open(self, address: str) -> None:
        """Connect, and wait for the server's settings."""
        host, _, port = address.rpartition(":")
        self._reader, self._writer = await asyncio.open_connection(host, int(port))
        self._writer.write(PREFACE + frame(SETTINGS, 0, 0))
        self._job = asyncio.create_task(self._read())
        await self._settled.wait()

    async def close(self) -> None:
        """End it."""
        self._job.cancel()
        await asyncio.gather(self._job, return_exceptions=True)
        self._writer.transport.abort()
        await asyncio.sleep(0)  # the socket is closed before anything else happens

    def call(self, path: str, message: bytes, number: int = 1) -> None:
        """Begin calls that send a message and do not end their side of the stream."""
        for stream in range(1, 2 * min(number, self._most), 2):
            self._windows[stream] = self._initial
            self._left[stream] = memoryview(message)
            self._writer.write(frame(HEADERS, END_HEADERS, stream, headers(path)))
        self._send()

    def _send(self) -> None:
        for stream in self._left:
            while (left := self._left[stream]) and stream not in self.ended:
                size = min(_MAX_FRAME, self._windows[0], self._windows[stream], len(left))
                if size <= 0:
                    break
                self._writer.write(frame(DATA, 0, stream, bytes(left[:size])))
                self._left[stream] = left[size:]
                self._windows[0] -= size
                self._windows[stream] -= size
                self.sent += size

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3]))
                self._handle(head[3], head[4], int.from_bytes(head[5:]) & 0x7FFFFFFF, payload)
                self._send()
                await self._writer.drain()
        self.closed = True

    def _handle(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case 8:
                self._windows[stream] = self._windows.get(stream, self._initial) + int.from_bytes(payload)
            case 4 if not flags & ACK:
                self._settings(payload)
                self._writer.write(frame(SETTINGS, ACK, 0))
                self._settled.set()
            case 6 if not flags & ACK:
                self._writer.write(frame(PING, ACK, 0, payload))
            case 3:
                self.ended.add(stream)
            case 1 if flags & END_STREAM:
                self.ended.add(stream)

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 4:
                for stream in self._left:
                    self._windows[stream] += value - self._initial
                self._initial = value
            elif name == 3:
                self._most = value


def unfinished(size: int) -> bytes:
    """Return a gRPC message of which the last byte is missing."""
    return struct.pack(">BI", 0, size) + b"\x0a" * (size - 1)
