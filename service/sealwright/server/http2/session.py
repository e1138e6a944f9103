"""What the frames of one client mean (RFC 9113): streams that open, end and wait, and the windows of requests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Final, Generic, TypeVar

import hpack

from sealwright.http2 import frames
from sealwright.http2.frames import Code, FrameError, Kind, Setting
from sealwright.server.http2 import patience
from sealwright.server.http2.fields import MAX_BLOCK_BYTES, FieldDecoder, Fields
from sealwright.server.http2.outbox import Outbox
from sealwright.server.http2.patience import Patience
from sealwright.server.http2.stream import Stream, nothing

MAX_STREAMS: Final = 100
STREAM_WINDOW: Final = 16 * 1024
"""Bytes of a request that may come before anybody asks for them."""
WINDOW: Final = 1024 * 1024
_MAX_FIELDS: Final = 16 * 1024
"""The limit on bytes of header fields that clients are given. `FieldDecoder` takes more, so that a call can be answered."""
_MOST_HELD: Final = 16 * 1024 * 1024
"""Most bytes of answers that wait for the windows of one client. Further answers are dropped."""
_NUMBER_BYTES: Final = 4
_PING_BYTES: Final = 8
_PRIORITY_BYTES: Final = 5
_LAST_PING: Final = b"farewell"

HELLO: Final = frames.settings(
    (
        (Setting.MAX_CONCURRENT_STREAMS, MAX_STREAMS),
        (Setting.INITIAL_WINDOW_SIZE, STREAM_WINDOW),
        (Setting.MAX_HEADER_LIST_SIZE, _MAX_FIELDS),
    )
) + frames.frame(Kind.WINDOW_UPDATE, 0, 0, frames.number(WINDOW - frames.DEFAULT_WINDOW))

H = TypeVar("H")


class MalformedError(Exception):
    """The header fields are not those of a request (RFC 9113 §8.1.1)."""


class Session(Generic[H]):
    """The streams of one connection.

    Attributes:
        outbox: Sends to the client.
        streams: The open streams, by number.
        greeted: Whether the client's first SETTINGS have come.
        leaving: Whether the client has been told to use another connection.
    """

    def __init__(
        self,
        read: Callable[[Fields], H],
        too_long: H,
        over: Callable[[], None],
        spare: Patience,
        outbox: Outbox,
    ) -> None:
        """Prepare.

        Args:
            read: Reads header fields. It raises a `MalformedError` for those that are not a request.
            too_long: Stands for header fields of more than `MAX_BLOCK_BYTES`.
            over: Called when there will be no further request, and those of before have their answers.
            spare: The patience with the client.
            outbox: Sends to the client.
        """
        self.outbox = outbox
        outbox.on_room = self.send_more
        self.streams: dict[int, Stream] = {}
        self.greeted = False
        self.leaving = False
        self._too_long = too_long
        self._over = over
        self._patience = spare
        self._fields = FieldDecoder(read)
        self._fresh: list[Stream] = []
        self._last = 0
        self._promised = frames.MAX_STREAM
        self._left = self._lost_table = False
        self._credit = WINDOW
        self._stream_credit = frames.DEFAULT_WINDOW  # until the client has our settings
        self._handlers: Final[Mapping[int, Callable[[int, int, bytes], None]]] = {
            Kind.DATA: self._take_data,
            Kind.HEADERS: self._take_headers,
            Kind.WINDOW_UPDATE: self._take_window,
            Kind.RST_STREAM: self._take_reset,
            Kind.SETTINGS: self._take_settings,
            Kind.PING: self._take_ping,
            Kind.GOAWAY: self._take_goaway,
            Kind.PRIORITY: self._take_priority,
            Kind.PUSH_PROMISE: self._take_push,
        }

    def take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Take a frame.

        Raises:
            FrameError: It is not permitted here.
            hpack.HPACKError: Its header fields cannot be decoded.
        """
        handler = self._handlers.get(kind)
        if handler is None:  # RFC 9113 §4.1: other types are ignored.
            self._patience.spend()
        else:
            handler(flags, number, payload)

    def fresh(self) -> list[Stream]:
        """Return the requests that have come since the last call."""
        fresh, self._fresh = self._fresh, []
        return fresh

    def leave(self) -> None:
        """Tell the client to use another connection. The requests that it has sent until it knows are answered."""
        if not self.leaving:
            self.leaving = True
            self.outbox.goaway(frames.MAX_STREAM, Code.NO_ERROR)
            self.outbox.write(frames.frame(Kind.PING, 0, 0, _LAST_PING))

    def finish(self) -> None:
        """Take no more requests. It is over when those under way have their answers."""
        self.leave()
        if not self._left:
            self._left = True
            self._promised = self._last
            self.outbox.goaway(self._last, Code.NO_ERROR)
            for stream in [s for s in self.streams.values() if s.idle]:
                stream.reset(Code.REFUSED_STREAM)  # Clients take it for UNAVAILABLE, and ask elsewhere.
        self._end_if_over()

    def fail(self, code: Code) -> None:
        """Tell the client which error ends the connection."""
        self.outbox.goaway(min(self._last, self._promised), code)  # RFC 9113 §6.8: it never grows.

    def lose(self) -> None:
        """End all streams, because the connection has ended."""
        streams = list(self.streams.values())
        self.streams.clear()
        for stream in streams:
            stream.close()

    def send(self, stream: Stream) -> None:
        """See `Carrier`."""
        if self.outbox.send(stream, alone=len(self.streams) == 1):
            stream.on_lost = nothing
            self._forget(stream)
        elif self.outbox.held > _MOST_HELD:
            self.end(stream, Code.ENHANCE_YOUR_CALM)

    def allow(self, stream: Stream, size: int) -> None:
        """See `Carrier`."""
        stream.credit += size
        self.outbox.write(frames.frame(Kind.WINDOW_UPDATE, 0, stream.number, frames.number(size)))

    def end(self, stream: Stream, code: Code) -> None:
        """See `Carrier`."""
        self.outbox.reset(stream.number, code)
        self._forget(stream)

    def _forget(self, stream: Stream) -> None:
        self.streams.pop(stream.number, None)
        self.outbox.held -= stream.held
        stream.close()
        self._end_if_over()

    def _take_headers(self, flags: int, number: int, block: bytes) -> None:
        if not number & 1:
            raise FrameError("a stream that no client may open")
        if number <= self._last:
            self._take_trailers(flags, number, block)
            return
        self._last = number
        if self._left:
            self._patience.spend()
            return  # It knows from GOAWAY that nobody has looked at it.
        try:
            head = self._decoded(block)
        except MalformedError:
            self._refuse(number, Code.PROTOCOL_ERROR)
            return
        if len(self.streams) >= MAX_STREAMS:
            self._refuse(number, Code.REFUSED_STREAM)
        else:
            stream = Stream(self, number, head, self._stream_credit, self.outbox.stream_window)
            stream.complete = bool(flags & frames.END_STREAM)
            self.streams[number] = stream
            self._fresh.append(stream)
        self._finish_if_lost()

    def _decoded(self, block: bytes) -> H:
        if not self._fields.knows(block):
            self._patience.spend(len(block) // patience.BLOCK_BYTES)
        if len(block) <= MAX_BLOCK_BYTES:
            with contextlib.suppress(hpack.OversizedHeaderListError):
                return self._fields.decode(block)
        self._lost_table = True
        return self._too_long

    def _finish_if_lost(self) -> None:
        """After header fields that are too long nobody knows the client's table, so it must open another connection."""
        if self._lost_table:
            self.finish()

    def _take_trailers(self, flags: int, number: int, block: bytes) -> None:
        self._patience.spend()
        stream = self.streams.get(number)
        if stream is not None and stream.complete:
            raise FrameError("header fields after the end", Code.STREAM_CLOSED)
        if not flags & frames.END_STREAM:
            raise FrameError("header fields in the midst of a request")
        if not self._left:
            self._read_trailers(block)
            self._finish_if_lost()
        if stream is not None:
            stream.feed(b"", last=True)

    def _read_trailers(self, block: bytes) -> None:
        """Decode trailers, because the table depends on them. They are not a request, or it has come out of its order."""
        with contextlib.suppress(MalformedError):
            if self._decoded(block) is not self._too_long:
                raise FrameError("a request on a stream of before")

    def _take_data(self, flags: int, number: int, payload: bytes) -> None:
        size = len(payload)
        self._credit -= size
        if self._credit < WINDOW // 2:
            if self._credit < 0:
                raise FrameError("more than the window", Code.FLOW_CONTROL_ERROR)
            self.outbox.write(frames.frame(Kind.WINDOW_UPDATE, 0, 0, frames.number(WINDOW - self._credit)))
            self._credit = WINDOW
        stream = self.streams.get(number)
        if stream is None:
            self._must_be_old(number)
            self._patience.spend()
            return
        stream.credit -= size
        if size and stream.credit < 0:  # An empty frame needs no window (RFC 9113 §6.9.1).
            raise FrameError("more than the window", Code.FLOW_CONTROL_ERROR)
        if stream.complete:
            raise FrameError("content after the end", Code.STREAM_CLOSED)
        data = frames.unpadded(Kind.DATA, flags, payload) if flags & frames.PADDED else payload
        if not data:
            self._patience.spend()
        stream.feed(data, last=bool(flags & frames.END_STREAM))

    def _take_reset(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != _NUMBER_BYTES:
            raise FrameError("RST_STREAM of a wrong size", Code.FRAME_SIZE_ERROR)
        self._patience.spend()
        self._must_be_old(number)
        stream = self.streams.get(number)
        if stream is not None:
            self._forget(stream)

    def _take_ping(self, flags: int, number: int, payload: bytes) -> None:
        if len(payload) != _PING_BYTES:
            raise FrameError("PING of a wrong size", Code.FRAME_SIZE_ERROR)
        _must_be_of_the_connection(number)
        self._patience.spend()
        if not flags & frames.ACK:
            self.outbox.write(frames.frame(Kind.PING, frames.ACK, 0, payload))
        elif payload == _LAST_PING and self.leaving:
            self.finish()

    def _take_goaway(self, _: int, number: int, payload: bytes) -> None:
        frames.read_number(payload, 4)
        self._patience.spend()
        _must_be_of_the_connection(number)
        self.finish()

    def _take_priority(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != _PRIORITY_BYTES:
            raise FrameError("PRIORITY of a wrong size", Code.FRAME_SIZE_ERROR)
        if not number or frames.read_number(payload) & frames.MAX_STREAM == number:
            raise FrameError("PRIORITY of nothing, or a stream that depends on itself")
        self._patience.spend()

    def _take_push(self, _: int, __: int, ___: bytes) -> None:
        raise FrameError("a push of a client")

    def _take_settings(self, flags: int, number: int, payload: bytes) -> None:
        self._patience.spend()
        _must_be_of_the_connection(number)
        if not flags & frames.ACK:
            self.greeted = True
            self.outbox.take_settings(payload, self.streams.values())
            self.send_more()
            return
        if payload:
            raise FrameError("SETTINGS that acknowledge and set", Code.FRAME_SIZE_ERROR)
        change, self._stream_credit = STREAM_WINDOW - self._stream_credit, STREAM_WINDOW
        for stream in self.streams.values():
            stream.credit += change

    def _take_window(self, _: int, number: int, payload: bytes) -> None:
        if len(payload) != _NUMBER_BYTES:
            raise FrameError("WINDOW_UPDATE of a wrong size", Code.FRAME_SIZE_ERROR)
        more = frames.read_number(payload) & frames.MAX_WINDOW
        self._patience.spend()
        if not more:
            raise FrameError("a window that does not grow")
        if number == 0:
            self.outbox.grow(more)
            self.send_more()
            return
        self._must_be_old(number)
        stream = self.streams.get(number)
        if stream is None:
            return
        stream.window += more
        if stream.window > frames.MAX_WINDOW:
            stream.reset(Code.FLOW_CONTROL_ERROR)
        elif stream.unsent:
            self.send(stream)

    def _must_be_old(self, number: int) -> None:
        """Refuse a frame of a stream that has never been open (RFC 9113 §5.1, "idle")."""
        if number > self._last or not number & 1:
            raise FrameError("a frame of no request")

    def send_more(self) -> None:
        """Send what waits, as far as there is room for it."""
        for stream in [s for s in self.streams.values() if s.unsent]:
            self.send(stream)

    def _refuse(self, number: int, code: Code) -> None:
        self._patience.spend()
        self.outbox.reset(number, code)

    def _end_if_over(self) -> None:
        if self._left and not self.streams:
            self._over()


def _must_be_of_the_connection(number: int) -> None:
    if number:
        raise FrameError("a frame of the connection on a stream")
