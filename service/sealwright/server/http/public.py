"""The public listener: JWK Sets and health, from a dictionary of bytes, never waiting for a KMS or a database."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from sealwright.keys.keyring import Keyring

_TAGS = re.compile(r'(?:W/)?("[^"]*")')
_CORS: Final = {"Access-Control-Allow-Origin": "*"}
_NO_STORE: Final = _CORS | {"Cache-Control": "no-store"}
_METHODS: Final = "GET, HEAD, OPTIONS"
_JSON: Final = "application/json"
_RETRY_AFTER: Final = {"Retry-After": "1"}


@dataclass(frozen=True, slots=True)
class Page:
    """What a path answers.

    Attributes:
        body: The content.
        headers: All headers but Content-Length.
        status: 200, or why not.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


Source = Callable[[], Page]


def _text(status: int, text: str, headers: Mapping[str, str] = _NO_STORE) -> Page:
    return Page(f"{text}\n".encode(), {"Content-Type": "text/plain; charset=utf-8", **headers}, status)


class PublicPages:
    """The public paths and where their bytes come from."""

    def __init__(self, keyring: Keyring, *, alive: Callable[[], bool]) -> None:
        self._keyring = keyring
        self._alive = alive
        self._sources: dict[str, Source] = {
            "/healthz": lambda: _text(200, "ok"),
            "/readyz": self._ready,
            "/readyz/jwks": self._jwks_ready,
        }
        for name, settings in keyring.settings.items():
            self._sources[f"{settings.path}/.well-known/jwks.json"] = self._jwks_source(name)

    def page(self, path: str) -> Page:
        """Return what a path answers; its query is not part of it."""
        source = self._sources.get(path)
        return source() if source else _text(404, "not found")

    def _jwks_source(self, issuer: str) -> Source:
        pages: dict[str, Page] = {}

        def source() -> Page:
            document = self._keyring.document(issuer)
            if document is None:
                # A verifier that gets 503 goes on with what it has; one that got an empty set would trust nobody.
                return _text(503, "no JWK Set yet", _NO_STORE | _RETRY_AFTER)
            page = pages.get(document.etag)
            if page is None or page.headers["Cache-Control"] != document.cache_control:
                headers = {"Content-Type": _JSON, "ETag": document.etag, "Cache-Control": document.cache_control}
                pages.clear()
                pages[document.etag] = page = Page(
                    document.body, headers | _CORS | {"X-Content-Type-Options": "nosniff"}
                )
            return page

        return source

    def _ready(self) -> Page:
        stuck = [n for n in self._keyring.settings if not self._keyring.can_sign(n)]
        return self._verdict(stuck, "cannot sign")

    def _jwks_ready(self) -> Page:
        return self._verdict(
            [n for n in self._keyring.settings if self._keyring.document(n) is None], "have no JWK Set"
        )

    def _verdict(self, stuck: Iterable[str], problem: str) -> Page:
        names = list(stuck)
        if not self._alive():
            return _text(503, "shutting down", _NO_STORE | _RETRY_AFTER)
        if names:
            return _text(503, f"{len(names)} issuers {problem}", _NO_STORE | _RETRY_AFTER)
        return _text(200, "ok")


def matches(if_none_match: str, etag: str) -> bool:
    """Compare If-None-Match with an entity tag: `*`, or a list, compared weakly (RFC 9110 §13.1.2)."""
    return if_none_match.strip() == "*" or etag in _TAGS.findall(if_none_match)


def handler(pages: Callable[[str], Page]) -> Callable[[web.BaseRequest], object]:
    """Return a request handler for aiohttp that serves pages."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "OPTIONS":
            preflight = _CORS | {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Allow-Headers": "*"}
            return web.Response(status=204, headers=preflight | {"Allow": _METHODS, "Access-Control-Max-Age": "86400"})
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers=_NO_STORE | {"Allow": _METHODS})
        page = pages(request.rel_url.raw_path)
        etag = page.headers.get("ETag")
        asked = ",".join(request.headers.getall("If-None-Match", ()))
        if etag and asked and matches(asked, etag):
            return web.Response(status=304, headers={k: v for k, v in page.headers.items() if k != "Content-Type"})
        return web.Response(status=page.status, body=page.body, headers=page.headers)

    return handle
