"""HTTP connections of strangers: what is malformed is counted and answered, and leaves nothing in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

from aiohttp import ClientPayloadError, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestPayloadError

from sealwright import metrics

log = logging.getLogger(__name__)

SOFTWARE: Final = "sealwright"
"""The header `Server`. It names no version, and not the library."""

_MALFORMED: Final = (HttpProcessingError, RequestPayloadError, ClientPayloadError)
_INTERNAL_ERROR: Final = 500


class Server(web.Server):
    """Makes a `Connection` for each connection."""

    def __init__(self, handler: Callable[[web.BaseRequest], Any], listener: str) -> None:
        super().__init__(handler, access_log=None)
        self._listener = listener

    def __call__(self) -> Connection:
        """Return the protocol for a new connection."""
        return Connection(self, self._listener)


class Connection(web.RequestHandler):
    """One connection. aiohttp itself logs a traceback with the headers of each malformed request."""

    __slots__ = ("_listener",)

    def __init__(self, server: Server, listener: str) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), access_log=None, logger=log)  # type: ignore[arg-type]
        self._listener = listener

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
        return await super().finish_response(request, resp, start_time)

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Log a fault of ours; count a fault of the client."""
        if isinstance(kw.get("exc_info"), _MALFORMED):
            self._count()
        else:
            log.error(*args, **kw)

    def _count(self) -> None:
        metrics.child(metrics.HTTP_ERRORS, self._listener).inc()
