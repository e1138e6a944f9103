"""Answers that are given again. Verifiers ask for a JWK Set with the same bytes each time, and get what those bytes got before."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Final, NamedTuple

from aiohttp import web

_MAX_REQUESTS: Final = 1024
MAX_REQUEST_BYTES: Final = 2048
_END: Final = b"\r\n\r\n"
_STARTS: Final = (b"GET /", b"HEAD /")
_NEVER: Final = (b"\nauthorization", b"\ncookie", b"\nproxy-", b"\nexpect", b"\nupgrade", b"\nrange")
"""Requests with such header fields are not kept: they have secrets, or ask for something else."""


class Repeatable(web.Response):
    """An answer from memory to a request that nothing else than its bytes decides.

    Attributes:
        current: Tells whether the same request would get it now.
        content: Its content.
    """

    def __init__(self, current: Callable[[], bool], *, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(status=status, body=body, headers=headers)
        self.current = current
        self.content = body


class _Known(NamedTuple):
    current: Callable[[], bool]
    head: bytes
    body: bytes


def whole(data: bytes) -> bool:
    """Return whether data is one request without content, and nothing else. Its lines end with CRLF (RFC 9112 §2.2)."""
    return (
        len(data) <= MAX_REQUEST_BYTES
        and data.startswith(_STARTS)
        and data.find(_END) == len(data) - len(_END)
        and data.count(b"\n") == data.count(b"\r\n")
    )


class Answers:
    """The answers of one listener that may be given again, by the bytes of their requests."""

    def __init__(self) -> None:
        self._known: dict[bytes, _Known] = {}
        self._date: tuple[int, bytes] = (0, b"")

    def find(self, request: bytes) -> bytes | None:
        """Return the whole answer to a request, with the date of now; None: it has to be made."""
        known = self._known.get(request) if len(request) <= MAX_REQUEST_BYTES else None
        if known is None:
            return None
        if not known.current():
            del self._known[request]
            return None
        return b"%b%b\r\n\r\n%b" % (known.head, self._now(), known.body)

    def keep(self, request: bytes, answer: web.StreamResponse) -> None:
        """Keep the answer to a request, if it may be given again.

        Args:
            request: The bytes of the request; see `whole`.
            answer: The answer, after it was sent.
        """
        if not isinstance(answer, Repeatable) or any(name in request.lower() for name in _NEVER):
            return
        if len(self._known) >= _MAX_REQUESTS:
            self._known.clear()  # They are strangers' text: nothing tells which of them will come again.
        lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items() if name.lower() != "date"]
        head = "\r\n".join([*lines, "Date: "]).encode("latin-1")
        self._known[request] = _Known(answer.current, head, b"" if request.startswith(b"HEAD") else answer.content)

    def _now(self) -> bytes:
        second = int(time.time())
        if self._date[0] != second:
            self._date = second, formatdate(second, usegmt=True).encode()
        return self._date[1]
