"""One client connection of HTTP/2 (RFC 9113) for requests and answers that are small and whole.

No table of header fields is kept in either direction: the peer is told not to (SETTINGS_HEADER_TABLE_SIZE 0), so equal blocks have
equal fields, and most of an answer's fields are read from a dictionary. hpack decodes the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import hpack

from sealwright.http2 import frames
from sealwright.http2.frames import Code, FrameError, Kind, Setting
from sealwright_providers.dial import BadAnswerError, ConnectionDiedError
from sealwright_providers.http2.requests import Answer, Fields, NotProcessedError, Request, StreamResetError

MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_HEAD_BYTES: Final = 64 * 1024
MAX_REQUESTS: Final = 100
"""Requests at a time, for servers that set no limit or a higher one."""
_WINDOW: Final = 16 * MAX_ANSWER_BYTES
_MAX_UNREAD: Final = 1024 * 1024
"""Bytes that a peer may let us owe it before it counts as gone: it asks, and does not read the answers."""
_KNOWN_BLOCKS: Final = 64
_KNOWN_BLOCK_BYTES: Final = 1024
_FIRST_FINAL_STATUS: Final = b"200"

# One more byte than is accepted: a server that keeps to the window would otherwise stop in the midst of a long answer.
_HELLO: Final = frames.hello(MAX_ANSWER_BYTES + 1, _WINDOW)


class Connection(asyncio.Protocol):
    """A connection, from `asyncio` in to answers out.

    Attributes:
        used: Whether it has already carried an answer.
        received: `loop.time()` when something came from the server.
        greeted: Completes when the settings of the server have come, or fails.
        on_lost: Called with the connection when it has ended.
        on_room: Called when another request can be sent that could not be sent before.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: Any = None
        self._requests: dict[int, Request] = {}
        self._blocked: dict[int, Request] = {}
        self._next = 1
        self._out: list[bytes] = []
        self._rest = b""
        self._block: tuple[int, int, bytes] | None = None
        self._retired = False
        self._window = frames.DEFAULT_WINDOW
        self._their_window = frames.DEFAULT_WINDOW
        self._their_frame = frames.MAX_FRAME_BYTES
        self._their_requests = MAX_REQUESTS
        self._consumed = 0
        self._owed = 0
        self._decoder = hpack.Decoder(max_header_list_size=MAX_HEAD_BYTES)
        self._decoder.header_table_size = self._decoder.max_allowed_table_size = 0
        self._known: dict[bytes, Fields] = {}
        self._handlers: Final[Mapping[int, Callable[[int, int, bytes], None]]] = {
            Kind.DATA: self._take_data,
            Kind.HEADERS: self._take_headers,
            Kind.CONTINUATION: self._take_continuation,
            Kind.WINDOW_UPDATE: self._take_window,
            Kind.RST_STREAM: self._take_reset,
            Kind.SETTINGS: self._take_settings,
            Kind.PING: self._take_ping,
            Kind.GOAWAY: self._take_goaway,
            Kind.PUSH_PROMISE: self._take_push,
        }
        self.used = False
        self.received = 0.0
        self.greeted: asyncio.Future[None] = loop.create_future()
        self.on_lost: Callable[[Connection], None] = lambda _: None
        self.on_room: Callable[[], None] = lambda: None

    @property
    def usable(self) -> bool:
        """Whether another request may be sent at all."""
        return not self._retired and self._transport is not None and not self._transport.is_closing()

    @property
    def has_room(self) -> bool:
        """Whether another request may be sent now."""
        return len(self._requests) < self._their_requests and self.usable

    @property
    def idle(self) -> bool:
        """Whether no request is under way."""
        return not self._requests

    async def exchange(self, block: bytes, body: bytes, timeout: float) -> Answer:
        """Send a request and return the answer.

        Args:
            block: Its header fields, encoded as literals.
            body: Its content.
            timeout: Seconds that it may take.

        Raises:
            TimeoutError: The whole answer did not come in time.
            NotProcessedError: The server did not look at it.
            ConnectionDiedError: The connection ended first.
            StreamResetError: The server ended the request.
            BadAnswerError: What came is not HTTP/2, or too long.
        """
        if not self.usable:
            raise NotProcessedError("the connection takes no more requests")
        stream = self._next
        self._next = stream + 2
        if self._next > frames.MAX_STREAM:
            self._retired = True
        waiter: asyncio.Future[Answer] = self._loop.create_future()
        request = self._requests[stream] = Request(stream, waiter, self._their_window)
        timer = self._loop.call_later(timeout, _expire, waiter)
        try:
            self._send_head(stream, block)
            self._send_body(request, body)
            return await waiter
        finally:
            timer.cancel()
            if stream in self._requests:
                # Nobody waits any longer.
                self._forget(request)
                self._write(frames.frame(Kind.RST_STREAM, 0, stream, frames.number(Code.CANCEL)))
                self._end_if_over()

    def retire(self) -> None:
        """Take no more requests, and close when those under way have ended."""
        self._retired = True
        self._end_if_over()

    def abort(self) -> None:
        """Close the connection at once. Requests under way fail."""
        self._retired = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        tls = transport.get_extra_info("ssl_object")
        self._transport = transport
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self.abort()  # RFC 9113 §3.2: without ALPN the server may speak something else.
            return
        self._transport.write(_HELLO)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name in asyncio
        """See asyncio.Protocol."""
        self._transport = None
        self._fail_all(ConnectionDiedError("the connection ended before the answer"))
        self.on_lost(self)

    def eof_received(self) -> None:
        """See asyncio.Protocol. The transport closes itself, as soon as it has sent the rest."""
        self._retired = True

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self.received = self._loop.time()
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        try:
            while end - at >= frames.HEAD_BYTES:
                size, kind, flags, stream = frames.head(data, at)
                start = at + frames.HEAD_BYTES
                if start + size > end:
                    break
                at = start + size
                self._take(kind, flags, stream, data[start:at])
        except (FrameError, hpack.HPACKError):
            self._fail_all(BadAnswerError("the answer is not HTTP/2, or too long"))
            self.abort()
            return
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if not self.greeted.done() and (kind != Kind.SETTINGS or flags & frames.ACK):
            raise FrameError("no SETTINGS at the start")
        if self._block is not None and kind != Kind.CONTINUATION:
            raise FrameError("header fields that do not go on")
        handler = self._handlers.get(kind)
        if handler is not None:  # Other types are ignored (RFC 9113 §4.1).
            handler(flags, stream, payload)

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        self._take_block(flags, stream, flags, frames.unpadded(Kind.HEADERS, flags, payload))

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream:
            raise FrameError("CONTINUATION of nothing")
        _, first, begun = self._block
        self._take_block(flags, stream, first, begun + payload)

    def _take_ping(self, flags: int, _: int, payload: bytes) -> None:
        if not flags & frames.ACK:
            self._owe(frames.frame(Kind.PING, frames.ACK, 0, payload))

    def _take_push(self, _: int, __: int, ___: bytes) -> None:
        raise FrameError("a push that was forbidden")

    def _take_block(self, flags: int, stream: int, first: int, block: bytes) -> None:
        if len(block) > MAX_HEAD_BYTES:
            raise FrameError("header fields that are too long")
        if not flags & frames.END_HEADERS:
            self._block = stream, first, block
            return
        self._block = None
        fields = self._known.get(block) or self._decoded(block)
        request = self._requests.get(stream)
        if request is None:
            return
        if request.fields is None:
            if fields.get(b":status", b"") < _FIRST_FINAL_STATUS and not first & frames.END_STREAM:
                return  # An interim answer (RFC 9113 §8.1).
            request.fields = fields
        elif not first & frames.END_STREAM:
            raise FrameError("header fields in the midst of content")
        if first & frames.END_STREAM:
            self._finish(request, fields)

    def _decoded(self, block: bytes) -> Fields:
        fields = {bytes(name): bytes(value) for name, value in self._decoder.decode(block, raw=True)}
        if len(block) <= _KNOWN_BLOCK_BYTES:
            if len(self._known) >= _KNOWN_BLOCKS:
                self._known.clear()
            self._known[block] = fields
        return fields

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._consumed += len(payload)
        if self._consumed > _WINDOW // 2:
            self._write(frames.frame(Kind.WINDOW_UPDATE, 0, 0, frames.number(self._consumed)))
            self._consumed = 0
        request = self._requests.get(stream)
        if request is None:
            return
        data = frames.unpadded(Kind.DATA, flags, payload) if flags & frames.PADDED else payload
        request.size += len(payload)
        if request.fields is None or request.size > MAX_ANSWER_BYTES:
            raise FrameError("content before the header fields, or too much of it")
        request.data.append(data)
        if flags & frames.END_STREAM:
            self._finish(request, {})

    def _finish(self, request: Request, trailers: Fields) -> None:
        if self._forget(request):
            # The answer came before the whole request was sent (RFC 9113 §8.1).
            self._write(frames.frame(Kind.RST_STREAM, 0, request.stream, frames.number(Code.NO_ERROR)))
        self.used = True
        if not request.waiter.done():
            data = request.data[0] if len(request.data) == 1 else b"".join(request.data)
            request.waiter.set_result(Answer(request.fields or {}, data, trailers))
        if self._retired:
            self._end_if_over()

    def _take_reset(self, _: int, stream: int, payload: bytes) -> None:
        code = frames.read_number(payload)
        request = self._requests.get(stream)
        if request is not None:
            refused = code == Code.REFUSED_STREAM
            self._fail(request, NotProcessedError("the server refused it") if refused else StreamResetError(code))
            self._end_if_over()

    def _take_goaway(self, _: int, __: int, payload: bytes) -> None:
        last = frames.read_number(payload) & frames.MAX_STREAM
        self._retired = True
        for request in [r for r in self._requests.values() if r.stream > last]:
            self._fail(request, NotProcessedError("the server is ending the connection"))
        self._end_if_over()

    def _take_settings(self, flags: int, _: int, payload: bytes) -> None:
        if flags & frames.ACK:
            return
        for name, value in frames.read_settings(payload):
            if name == Setting.MAX_CONCURRENT_STREAMS:
                self._their_requests = min(value, MAX_REQUESTS)
            elif name == Setting.MAX_FRAME_SIZE:
                if not frames.MAX_FRAME_BYTES <= value <= frames.MAX_FRAME_LIMIT:
                    raise FrameError("MAX_FRAME_SIZE is out of range")
                self._their_frame = value
            elif name == Setting.INITIAL_WINDOW_SIZE:
                if value > frames.MAX_WINDOW:
                    raise FrameError("INITIAL_WINDOW_SIZE is out of range")
                for request in self._requests.values():
                    request.window += value - self._their_window
                self._their_window = value
        self._owe(frames.frame(Kind.SETTINGS, frames.ACK, 0))
        if not self.greeted.done():
            self.greeted.set_result(None)
        self._send_more()
        self.on_room()

    def _take_window(self, _: int, stream: int, payload: bytes) -> None:
        more = frames.read_number(payload) & frames.MAX_WINDOW
        if stream == 0:
            self._window += more
        elif stream in self._requests:
            self._requests[stream].window += more
        self._send_more()

    def _send_head(self, stream: int, block: bytes) -> None:
        if stream == 1:
            # Peers may allow less than the table of 4,096 bytes that is the default, and we use none at all.
            block = frames.NO_TABLE + block
        self._write(frames.header_block(stream, block))

    def _send_body(self, request: Request, body: bytes) -> None:
        """Send as much of the content as the peer has room for; the rest when it says that it has."""
        while True:
            piece = body[: max(0, min(self._window, request.window, self._their_frame))]
            last = len(piece) == len(body)
            if piece or last:
                self._window -= len(piece)
                request.window -= len(piece)
                self._write(frames.frame(Kind.DATA, frames.END_STREAM if last else 0, request.stream, piece))
            if last:
                self._blocked.pop(request.stream, None)
                return
            if not piece:
                request.unsent = body
                self._blocked[request.stream] = request
                return
            body = body[len(piece) :]

    def _send_more(self) -> None:
        for request in list(self._blocked.values()):
            self._send_body(request, request.unsent)

    def _write(self, data: bytes) -> None:
        # What requests of one turn of the loop send goes out together: one TLS record, one system call.
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(data)

    def _owe(self, data: bytes) -> None:
        """Send an answer to something that the peer asked for. It must read what it asks for."""
        self._owed += len(data)
        self._write(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        if not out or self._transport is None or self._transport.is_closing():
            return
        try:
            self._transport.write(b"".join(out))
        except RuntimeError:  # uvloop, when a connection was given up while it was being made
            self._transport = None
            self._fail_all(ConnectionDiedError("the connection was given up"))
            return
        if not self._transport.get_write_buffer_size():
            self._owed = 0
        elif self._owed > _MAX_UNREAD:
            self.abort()

    def _forget(self, request: Request) -> bool:
        """Take a request off the list. Return whether it was not sent completely."""
        full = len(self._requests) >= self._their_requests
        self._requests.pop(request.stream, None)
        if full:
            self.on_room()
        return self._blocked.pop(request.stream, None) is not None

    def _fail(self, request: Request, error: Exception) -> None:
        self._forget(request)
        if not request.waiter.done():
            request.waiter.set_exception(error)

    def _fail_all(self, error: Exception) -> None:
        self._retired = True
        if not self.greeted.done():
            self.greeted.set_exception(error)
            self.greeted.exception()  # Marks it as seen, in case nobody waits any longer.
        for request in list(self._requests.values()):
            self._fail(request, error)

    def _end_if_over(self) -> None:
        if self._retired and not self._requests:
            # Not `close`: it would wait for the other side to end TLS, which some servers never do.
            self.abort()


def _expire(waiter: asyncio.Future[Answer]) -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError("no answer in time"))
