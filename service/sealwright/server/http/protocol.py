"""HTTP connections of strangers: what is malformed is counted and answered, and leaves nothing in the log.

Each phase of a connection has its time. `server/connections.py` ends those that exceed it.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterator
from enum import Enum
from typing import Any, Final, cast

from aiohttp import ClientPayloadError, HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from sealwright import metrics
from sealwright.server.http.answers import Answers, whole

log = logging.getLogger(__name__)

SOFTWARE: Final = "sealwright"
"""The header `Server`. It names no version, and not the library."""

HEADER_SECONDS: Final = 10.0
"""Longest time for a TLS handshake, until the first byte, and from the first byte of a request to its last header."""
ANSWER_SECONDS: Final = 20.0
"""Longest time from the last header of a request until its answer has been taken."""
IDLE_SECONDS: Final = 75.0
"""Longest time between two requests. It is longer than the 60 s of common proxies, so that they close first."""
_LINGERING_SECONDS: Final = 2.0
"""How long the body of a request that needs none is read and ignored."""

_ANSWERING: Final = 1.0
"""An answer comes from memory. If it takes longer than this, its client is not reading."""

_MALFORMED: Final = (HttpProcessingError, RequestPayloadError, ClientPayloadError)
_INTERNAL_ERROR: Final = 500
_NEXT_REQUEST = re.compile(rb"\r\n\r\n(?=[A-Za-z])")
_MAX_PIECES: Final = 64
_UPGRADE: Final = b"upgrade"
_OVERLAP: Final = len(_UPGRADE) - 1
"""Bytes of the data before that are looked at again, in case what is searched lies across the border."""


class Phase(Enum):
    """What a connection is waiting for. The value is how long that may take, in seconds."""

    FIRST_BYTE = (HEADER_SECONDS, 0)
    HEADERS = (HEADER_SECONDS, 1)
    ANSWER = (ANSWER_SECONDS, 2)
    IDLE = (IDLE_SECONDS, 3)


class Server(web.Server):
    """Makes a `Connection` for each connection."""

    def __init__(
        self, handler: Callable[[web.BaseRequest], Any], listener: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        super().__init__(handler, access_log=None)
        self._listener = listener
        self._clock = clock
        self._answers = Answers()

    def __call__(self) -> Connection:
        """Return the protocol for a new connection."""
        return Connection(self, self._listener, self._clock, self._answers)


class Connection(web.RequestHandler):
    """One connection. aiohttp itself logs a traceback with the headers of each malformed request.

    Attributes:
        when_made: Called when the connection is open; with TLS after the handshake.
        when_lost: Called when it has ended.
        phase: What it is waiting for.
    """

    __slots__ = (
        "_answers",
        "_asked",
        "_clock",
        "_end",
        "_even",
        "_listener",
        "_may_upgrade",
        "_since",
        "_wire",
        "phase",
        "when_lost",
        "when_made",
    )

    def __init__(self, server: Server, listener: str, clock: Callable[[], float], answers: Answers) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            logger=log,
            lingering_time=_LINGERING_SECONDS,
        )
        self._listener = listener
        self._clock = clock
        self._answers = answers
        self._even = True  # All that has come are whole requests without content, and all of them are answered.
        self._asked = b""
        self._wire: asyncio.Transport | None = None
        self._end = b""
        self._may_upgrade = False
        self.when_made: Callable[[], None] | None = None
        self.when_lost: Callable[[], None] | None = None
        self._enter(Phase.FIRST_BYTE)

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self._since = self._clock()

    @property
    def deadline(self) -> float:
        """Reading of the clock at which its phase has lasted too long."""
        return self._since + self.phase.value[0]

    @property
    def blameless(self) -> bool:
        """Whether a client that lets its time pass has done nothing wrong: it is idle."""
        return self.phase is Phase.IDLE

    def waiting_since(self) -> float | None:
        """Return since when it has been waiting for its client, or None while a request is being answered."""
        if self.phase is Phase.ANSWER and self._clock() - self._since < _ANSWERING:
            return None
        return self._since

    def abort(self) -> None:
        """End it at once. What the client has not taken is dropped."""
        if self._wire is not None:
            self._wire.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._wire = cast("asyncio.Transport", transport)
        self._enter(Phase.FIRST_BYTE)
        super().connection_made(transport)
        if self.when_made is not None:
            self.when_made()

    def connection_lost(self, exc: BaseException | None) -> None:
        """See asyncio.Protocol."""
        super().connection_lost(exc)
        if self.when_lost is not None:
            self.when_lost()
            self.when_lost = self.when_made = None

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self._even:
            answer = self._answers.find(data)
            if answer is not None and self._wire is not None and self._gives_again():
                self._end = data[-_OVERLAP:]
                self._wire.write(answer)
                self._enter(Phase.IDLE)
                return
            self._even = False
            self._asked = data if whole(data) else b""
        else:
            self._asked = b""
        for piece in self._pieces(data):
            super().data_received(piece)
        if self._messages or self._request_in_progress:
            if self.phase is not Phase.ANSWER:
                self._enter(Phase.ANSWER)
        elif self.phase in {Phase.FIRST_BYTE, Phase.IDLE}:
            self._enter(Phase.HEADERS)

    def _gives_again(self) -> bool:
        """Return whether an answer may go out at once. A client that does not take its answers has to wait for aiohttp."""
        return not (self._close or self._force_close or self.writing_paused)

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        """Cut data where a request may begin.

        aiohttp's parser drops what it was given behind a request with `Upgrade`, unless it is given that separately.
        """
        known = len(self._end)
        text = self._end + data
        self._end = text[-_OVERLAP:]
        self._may_upgrade = self._may_upgrade or _UPGRADE in text.lower()
        if not self._may_upgrade:
            yield data
            return
        at = 0
        for n, found in enumerate(_NEXT_REQUEST.finditer(text)):
            cut = found.end() - known
            if n == _MAX_PIECES:
                break
            if cut > at:
                yield data[at:cut]
                at = cut
        yield data[at:] if at else data

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Return the answer to a request that failed, and end the connection."""
        if status >= _INTERNAL_ERROR and not isinstance(exc, _MALFORMED):
            return super().handle_error(request, status, exc, message)
        self._count()
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun")
        answer = web.Response(status=status, text="malformed request\n")
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send an answer."""
        resp.headers.setdefault("Server", SOFTWARE)
        if request.version < HttpVersion11 and "Transfer-Encoding" in request.headers:
            resp.force_close()  # HTTP/1.0 has no transfer codings: where the request ends is doubtful (RFC 9112 §6.1)
        try:
            sent, reset = await super().finish_response(request, resp, start_time)
        finally:
            self._enter(Phase.ANSWER if self._messages else Phase.IDLE)
        if self._asked and not reset:
            self._settle(request, sent)
        return sent, reset

    def _settle(self, request: web.BaseRequest, answer: web.StreamResponse) -> None:
        """Note that the only request that had come is answered, and keep the answer for the next one like it."""
        asked, self._asked = self._asked, b""
        plain = request.version == HttpVersion11 and not request.body_exists and not self._may_upgrade
        if plain and request.keep_alive and answer.keep_alive and not self._messages:
            self._even = True
            self._answers.keep(asked, answer)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a fault of ours; count a fault of the client."""
        if isinstance(kw.get("exc_info"), _MALFORMED):
            self._count()
        else:
            log.error(*args, **kw)

    def _count(self) -> None:
        metrics.tally(metrics.HTTP_ERRORS, self._listener).add()
