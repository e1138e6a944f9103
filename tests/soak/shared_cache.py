"""An HTTP cache that many verifiers share, such as a CDN. It obeys max-age (RFC 9111) and stale-if-error (RFC 5861)."""

from __future__ import annotations

import re
import time
from collections import Counter
from dataclasses import dataclass
from http import HTTPStatus
from typing import Self

import aiohttp
from aiohttp import web

_TIMEOUT = aiohttp.ClientTimeout(total=0.8)
_SECONDS = re.compile(r"(max-age|stale-if-error)=([0-9]+)")


@dataclass(frozen=True, slots=True)
class Stored:
    """An answer that may be given again.

    Attributes:
        body: Its content.
        headers: Its headers.
        got: When it arrived, by `time.monotonic`.
        limits: Its max-age and stale-if-error.
    """

    body: bytes
    headers: dict[str, str]
    got: float
    limits: dict[str, int]

    def usable(self, *, failed: bool) -> bool:
        """Return whether it is fresh, or may be used since another one cannot be fetched."""
        limit = self.limits.get("max-age", 0) + (self.limits.get("stale-if-error", 0) if failed else 0)
        return time.monotonic() - self.got < limit


class SharedCache:
    """The cache.

    Attributes:
        served: How often it answered with what: `stored`, `fetched`, `stale` or `nothing`.
    """

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._stored: dict[str, Stored] = {}
        self.served: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._http = aiohttp.ClientSession(timeout=_TIMEOUT, connector=aiohttp.TCPConnector(force_close=True))
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port: int = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
        await self._http.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.rel_url.raw_path
        stored = self._stored.get(path)
        if stored is not None and stored.usable(failed=False):
            return self._give("stored", stored)
        try:
            fetched = await self._fetch(path)
        except (aiohttp.ClientError, TimeoutError):
            if stored is not None and stored.usable(failed=True):
                return self._give("stale", stored)
            self.served["nothing"] += 1
            return web.Response(status=HTTPStatus.BAD_GATEWAY)
        return self._give("fetched", fetched)

    async def _fetch(self, path: str) -> Stored:
        async with self._http.get(f"{self._origin}{path}") as answer:
            answer.raise_for_status()
            body = await answer.read()
            kept = {n: answer.headers[n] for n in ("Cache-Control", "ETag", "Content-Type") if n in answer.headers}
            limits = {n: int(v) for n, v in _SECONDS.findall(answer.headers.get("Cache-Control", ""))}
            found = self._stored[path] = Stored(body, kept, time.monotonic(), limits)
            return found

    def _give(self, how: str, stored: Stored) -> web.Response:
        self.served[how] += 1
        age = str(int(time.monotonic() - stored.got))
        return web.Response(body=stored.body, headers={**stored.headers, "Age": age})
