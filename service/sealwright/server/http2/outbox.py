"""What goes to a client: frames of one turn of the event loop together, and content within its windows (RFC 9113 §5.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

from sealwright.http2 import frames
from sealwright.http2.frames import Code, FrameError, Kind, Setting
from sealwright.server.http2 import patience
from sealwright.server.http2.patience import Patience
from sealwright.server.http2.stream import Stream

PROGRESS_BYTES: Final = 16 * 1024
"""A client that takes less of its answers than this within `lifetime.STALLED_SECONDS` does not take them."""
WRITTEN_BYTES: Final = 64 * 1024
"""Bytes that the transport has at most, and a frame. The rest waits in the streams, where it can be counted and dropped."""
PAUSE_BYTES: Final = 32 * 1024
"""From so many bytes on, the transport says when it has sent them. Less than `WRITTEN_BYTES`, so that nothing waits for ever."""


class Outbox:
    """Sends to one client.

    Attributes:
        wire: The transport; None: not yet, or no longer.
        stream_window: Bytes of an answer that the client takes at first.
        held: Bytes of answers that wait for its windows, or for it to read.
        on_room: Called when more of them can be sent.
    """

    def __init__(self, spare: Patience) -> None:
        """Prepare.

        Args:
            spare: Grows with what is sent.
        """
        self.wire: Any = None
        self.stream_window = frames.DEFAULT_WINDOW
        self.held = 0
        self.on_room: Callable[[], None] = lambda: None
        self._moved = self._moved_before = 0
        self._still_since: float | None = None
        self._patience = spare
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._pending = 0
        self._window = frames.DEFAULT_WINDOW
        self._frame = frames.MAX_FRAME_BYTES
        self._answered = False

    def write(self, data: bytes) -> None:
        """Send frames at the end of this turn."""
        # One TLS record, one system call.
        if not self._out:
            self._loop.call_soon(self.flush)
        self._out.append(data)
        self._pending += len(data)

    @property
    def unsent(self) -> int:
        """How many bytes the transport has not sent. With TLS it does not see all of them."""
        return 0 if self.wire is None else int(self.wire.get_write_buffer_size())

    def still(self, now: float) -> float:
        """Return for how many seconds answers have been waiting for a client that takes almost nothing."""
        if not self.held:
            self._still_since = None
            return 0.0
        if self._still_since is None or self._moved - self._moved_before >= PROGRESS_BYTES:
            self._still_since, self._moved_before = now, self._moved
        return now - self._still_since

    def reset(self, number: int, code: Code) -> None:
        """Send RST_STREAM."""
        self.write(frames.frame(Kind.RST_STREAM, 0, number, frames.number(code)))

    def goaway(self, last: int, code: Code) -> None:
        """Send GOAWAY."""
        self.write(frames.frame(Kind.GOAWAY, 0, 0, frames.number(last) + frames.number(code)))

    def flush(self) -> None:
        """Send what waits."""
        out, self._out, self._pending = self._out, [], 0
        if not out or self.wire is None or self.wire.is_closing():
            return
        self.wire.write(b"".join(out))
        if self.held and self.unsent < WRITTEN_BYTES:
            self._loop.call_soon(self.on_room)

    def send(self, stream: Stream, *, alone: bool = False) -> bool:
        """Send what a stream has to send, as far as the windows permit; return whether that was the end of the answer.

        Args:
            stream: The stream.
            alone: There is no other, so that nothing can be gained by waiting for the end of this turn.
        """
        number, data, out = stream.number, stream.unsent, []
        at, end = stream.sent, len(data)
        if stream.fields:
            out.append(self._header_frames(number, stream.fields, 0))
            stream.fields = b""
        room = WRITTEN_BYTES - self._pending - self.unsent
        while at < end and room > 0:
            size = min(end - at, self._window, stream.window, self._frame)
            if size <= 0:
                break
            self._window -= size
            stream.window -= size
            self._patience.earn(patience.A_BYTE * size)
            out.append(frames.frame(Kind.DATA, 0, number, data[at : at + size]))
            at += size
            room -= size
        self._moved += at - stream.sent
        self.held += end - at - stream.held
        stream.sent, stream.held = at, end - at
        if at == end:
            stream.unsent, stream.sent = b"", 0
            stream.made_room()
        ended = at == end and stream.trailers is not None
        if ended:
            out.append(self._header_frames(number, stream.trailers or b"", frames.END_STREAM))
            self._patience.earn(patience.AN_ANSWER)
            if not stream.complete:  # RFC 9113 §8.1: nobody needs the rest of the request.
                out.append(frames.frame(Kind.RST_STREAM, 0, number, frames.number(Code.NO_ERROR)))
        if out:
            self.write(b"".join(out))
            if alone and ended:
                self.flush()
        return ended

    def grow(self, more: int) -> None:
        """Note that the client takes more of all answers together.

        Raises:
            FrameError: More than there can be.
        """
        self._window += more
        if self._window > frames.MAX_WINDOW:
            raise FrameError("a window that is too large", Code.FLOW_CONTROL_ERROR)

    def take_settings(self, payload: bytes, streams: Iterable[Stream]) -> None:
        """Note what the client's settings permit, and acknowledge them.

        Raises:
            FrameError: They are out of range.
        """
        pairs = frames.read_settings(payload)
        self._patience.spend(len(pairs))
        for name, value in pairs:
            if name == Setting.MAX_FRAME_SIZE:
                if not frames.MAX_FRAME_BYTES <= value <= frames.MAX_FRAME_LIMIT:
                    raise FrameError("MAX_FRAME_SIZE is out of range")
                self._frame = value
            elif name == Setting.INITIAL_WINDOW_SIZE:
                self._resize(value, streams)
            elif name == Setting.ENABLE_PUSH and value > 1:
                raise FrameError("ENABLE_PUSH is out of range")
        self.write(frames.frame(Kind.SETTINGS, frames.ACK, 0))

    def _resize(self, window: int, streams: Iterable[Stream]) -> None:
        if window > frames.MAX_WINDOW:
            raise FrameError("INITIAL_WINDOW_SIZE is out of range", Code.FLOW_CONTROL_ERROR)
        change, self.stream_window = window - self.stream_window, window
        for stream in streams:
            stream.window += change
            if stream.window > frames.MAX_WINDOW:
                raise FrameError("a window that is too large", Code.FLOW_CONTROL_ERROR)

    def _header_frames(self, number: int, block: bytes, flags: int) -> bytes:
        if not self._answered:
            # Clients may allow less than the table of 4,096 bytes that is the default, and we use none at all.
            self._answered = True
            block = frames.NO_TABLE + block
        return frames.header_block(number, block, flags)
