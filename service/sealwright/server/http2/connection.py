"""One connection of a client (RFC 9113): frames in, streams out, answers back, within bounds."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar, cast

import hpack

from sealwright.http2 import frames
from sealwright.http2.frames import Code, FrameError, Kind
from sealwright.server.http2 import lifetime, patience
from sealwright.server.http2.fields import Fields
from sealwright.server.http2.lifetime import Lifetime
from sealwright.server.http2.outbox import PAUSE_BYTES, Outbox
from sealwright.server.http2.patience import Patience
from sealwright.server.http2.reader import FrameReader
from sealwright.server.http2.session import HELLO, Session
from sealwright.server.http2.stream import Stream

_IDLE_TEND_SECONDS: Final = 1.0
_OUR_PING: Final = b"sealwrig"

H = TypeVar("H")


class Connection(asyncio.Protocol, Generic[H]):
    """A connection, from the transport to the requests.

    Attributes:
        when_made: Called when it is open; with TLS after the handshake.
        when_lost: Called when it has ended.
    """

    def __init__(
        self,
        read: Callable[[Fields], H],
        too_long: H,
        begin: Callable[[Stream], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            read: Reads header fields. It raises a `MalformedError` for those that are not a request.
            too_long: Stands for header fields of more than `MAX_BLOCK_BYTES`.
            begin: Called for each request, after the data that came with its header fields.
            clock: A stopwatch in seconds.
        """
        self.when_made: Callable[[], None] | None = None
        self.when_lost: Callable[[], None] | None = None
        self._begin = begin
        self._clock = clock
        self._tended = clock()
        self._life = Lifetime(clock)
        self._wire: Any = None
        self._closed = False
        self._patience = Patience()
        self._reader = FrameReader(self._patience)
        self._outbox = Outbox(self._patience)
        self._session = Session(read, too_long, self._close, self._patience, self._outbox)

    @property
    def busy(self) -> bool:
        """Whether there are answers that have not been sent completely, of requests that do not only wait for news."""
        return any(not stream.idle for stream in self._session.streams.values()) or self._outbox.unsent > 0

    @property
    def deadline(self) -> float:
        """Reading of the clock at which it has kept us waiting for too long."""
        return self._life.deadline

    @property
    def blameless(self) -> bool:
        """Whether it ends for a reason that its client has not caused."""
        return self._session.leaving and self._life.stalled is None

    def waiting_since(self) -> float | None:
        """Return since when it has been waiting for its client, or None while it works on a request."""
        working = any(s.complete and not s.idle and not s.unsent for s in self._session.streams.values())
        return None if working and self._life.stalled is None else self._life.heard

    def abort(self) -> None:
        """End it at once. What the client has not taken is dropped."""
        self._closed = True
        if self._wire is not None:
            self._wire.abort()

    def leave(self) -> None:
        """Tell the client to use another connection. The requests that it has sent until it knows are answered."""
        if not self._closed:
            self._life.end_within(lifetime.LEAVING_SECONDS)
            self._session.leave()

    def finish(self) -> None:
        """Take no more requests, and close when those under way have their answers."""
        if not self._closed:
            self._session.finish()

    def tend(self) -> None:
        """Do what time brings."""
        now = self._clock()
        if not self._session.streams and now - self._tended < _IDLE_TEND_SECONDS:
            return  # There may be a thousand that do nothing.
        self._patience.earn((now - self._tended) * patience.A_SECOND)
        self._tended = now
        stuck = self._outbox.still(now) > lifetime.STALLED_SECONDS
        for stream in list(self._session.streams.values()):
            if stuck and stream.unsent:
                stream.reset(Code.CANCEL)
            elif now >= stream.deadline:
                stream.deadline = math.inf
                stream.on_expiry()
        if self._life.stalled is not None:
            self._life.take(self._outbox.unsent)
        if self._life.old or self._session.leaving:
            self.leave()
        if self._life.owes_a_ping():
            self._outbox.write(frames.frame(Kind.PING, 0, 0, _OUR_PING))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        wire = self._wire = self._outbox.wire = cast("asyncio.Transport", transport)
        self._life = Lifetime(self._clock)
        tls = wire.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self.abort()  # RFC 9113 §3.2
            return
        wire.set_write_buffer_limits(high=PAUSE_BYTES)
        self._outbox.write(HELLO)
        if self.when_made is not None:
            self.when_made()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name in asyncio
        """See asyncio.Protocol."""
        self._closed = True
        self._wire = self._outbox.wire = None
        self._session.lose()
        if self.when_lost is not None:
            self.when_lost()
            self.when_lost = self.when_made = None

    def pause_writing(self) -> None:
        """See asyncio.Protocol. From a client that does not read its answers no more requests are read."""
        if self._life.stalled is None:
            self._life.stall(self._outbox.unsent)
            self._wire.pause_reading()

    def resume_writing(self) -> None:
        """See asyncio.Protocol."""
        self._life.go_on()
        if not self._closed:
            self._wire.resume_reading()
            self._session.send_more()

    def eof_received(self) -> bool:
        """See asyncio.Protocol. A client that sends no more may still wait for answers. With TLS the transport ends it."""
        if self._session.streams and not self._closed and self._wire.get_extra_info("ssl_object") is None:
            self.finish()
            return True
        return False

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._closed:
            return
        self._life.hear()
        session = self._session
        try:
            for frame in self._reader.read(data):
                session.take(*frame)
        except FrameError as e:
            self._give_up(e.code)
            return
        except hpack.HPACKError:
            self._give_up(Code.COMPRESSION_ERROR)
            return
        self._life.greeted = session.greeted
        if not self._closed:
            for stream in session.fresh():
                if stream.open:
                    self._begin(stream)

    def _give_up(self, code: Code) -> None:
        """Say why, and close."""
        if self._reader.begun:
            self._session.fail(code)
        self._close()

    def _close(self) -> None:
        if self._closed:
            return
        self._outbox.flush()
        self._closed = True
        self._life.end_within(lifetime.LEAVING_SECONDS if self._outbox.unsent else lifetime.CLOSING_SECONDS)
        if self._wire is not None:
            self._wire.close()
