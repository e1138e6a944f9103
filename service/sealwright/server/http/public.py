"""The public listener: JWK Sets, discovery, PEM and health. It serves from memory and never waits for a KMS or a database."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from sealwright.issuer_settings import IssuerSettings
from sealwright.keys.issuer import JwksDocument, entity_tag
from sealwright.keys.keyring import Keyring
from sealwright.keys.readiness import Readiness
from sealwright.server.http.answers import Repeatable

_TAGS = re.compile(r'(?:W/)?("[^"]*")')
_CORS: Final = {"Access-Control-Allow-Origin": "*"}
_NO_STORE: Final = _CORS | {"Cache-Control": "no-store"}
_METHODS: Final = "GET, HEAD, OPTIONS"
_JSON: Final = "application/json"
PEM: Final = ".pem"
_SHOWN: Final = 10
"""Reasons of readiness that are shown. The log has all of them, with the names of the issuers."""
_RETRY_AFTER: Final = {"Retry-After": "1"}


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a path.

    Attributes:
        body: The content.
        headers: All headers except Content-Length.
        status: HTTP status code.
    """

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


def _text(status: int, text: str, headers: Mapping[str, str] = _NO_STORE) -> Page:
    return Page(f"{text}\n".encode(), {"Content-Type": "text/plain; charset=utf-8", **headers}, status)


class PublicPages:
    """The public paths and their bytes: a dictionary, rebuilt for an issuer when its JWK Set changes."""

    def __init__(self, keyring: Keyring, readiness: Readiness, *, alive: Callable[[], bool]) -> None:
        self._keyring = keyring
        self._readiness = readiness
        self._alive = alive
        self._health: dict[str, Callable[[], Page]] = {
            "/healthz": lambda: _text(200, "ok"),
            "/readyz": self._ready,
            "/readyz/jwks": self._jwks_ready,
        }
        self._issuers = {path: s.name for s in keyring.issuers for path in fixed_paths(s)}
        self._pem_folders = {f"{s.path}/keys": s.name for s in keyring.issuers}
        self._pages: dict[str, tuple[JwksDocument, Mapping[str, Page]]] = {}

    def page(self, path: str) -> Page:
        """Return the answer to a path. The path does not contain the query."""
        health = self._health.get(path)
        if health is not None:
            return health()
        name = self._issuers.get(path)
        if name is None and path.endswith(PEM):
            name = self._pem_folders.get(path.rpartition("/")[0])
        if name is None:
            return _text(404, "not found")
        document = self._document(name)
        if document is None:
            # A verifier that gets 503 keeps using the set that it has. One that got an empty set would trust no key.
            return _text(503, "no JWK Set yet", _NO_STORE | _RETRY_AFTER)
        known = self._pages.get(name)
        if known is None or known[0] is not document:
            known = self._pages[name] = (document, issuer_pages(self._keyring.settings(name), document))
        return known[1].get(path) or _text(404, "not found")

    def _document(self, name: str) -> JwksDocument | None:
        issuer = self._keyring.find(name)
        return issuer.document() if issuer else None

    def _ready(self) -> Page:
        problems = [p for s in self._keyring.issuers if (p := self._readiness.problem(s.name)) is not None]
        return self._verdict(problems, "cannot sign", ": " + "; ".join(dict.fromkeys(problems[:_SHOWN])))

    def _jwks_ready(self) -> Page:
        missing = [i.name for i in self._keyring.issuers if self._document(i.name) is None]
        return self._verdict(missing, "have no JWK Set")

    def _verdict(self, stuck: Sequence[str], problem: str, why: str = "") -> Page:
        if not self._alive():
            return _text(503, "shutting down", _NO_STORE | _RETRY_AFTER)
        if stuck:
            return _text(503, f"{len(stuck)} issuers {problem}{why}", _NO_STORE | _RETRY_AFTER)
        return _text(200, "ok")


def fixed_paths(issuer: IssuerSettings) -> tuple[str, str, str]:
    """Return the paths of an issuer's JWK Set and metadata.

    OpenID Connect Discovery 1.0 appends to the issuer's path (§4), RFC 8414 inserts before it (§3.1).
    """
    return (
        f"{issuer.path}/.well-known/jwks.json",
        f"{issuer.path}/.well-known/openid-configuration",
        f"/.well-known/oauth-authorization-server{issuer.path}",
    )


def issuer_pages(issuer: IssuerSettings, document: JwksDocument) -> dict[str, Page]:
    """Return all pages of an issuer but health, by path."""
    jwks, openid, oauth = fixed_paths(issuer)
    metadata = json.dumps(issuer_metadata(issuer, document), separators=(",", ":")).encode()
    pages = {
        jwks: _cached(document.body, issuer.jwks.content_type, document.cache_control, document.etag),
        openid: _cached(metadata, _JSON, document.cache_control),
        oauth: _cached(metadata, _JSON, document.cache_control),
    }
    for kid, pem in document.pem.items():
        pages[f"{issuer.path}/keys/{kid}{PEM}"] = _cached(pem, "application/x-pem-file", document.cache_control)
    return pages


def issuer_metadata(issuer: IssuerSettings, document: JwksDocument) -> dict[str, object]:
    """Return the metadata of OpenID Connect Discovery 1.0 §3 and RFC 8414 §2 for an issuer that only signs tokens.

    It has no authorization or token endpoints, like the metadata of a Kubernetes cluster. It lists the algorithms of the
    published keys, even if RS256 is not among them, which OpenID Connect requires.
    """
    return {
        "issuer": issuer.url,
        "jwks_uri": f"{issuer.url.rstrip('/')}/.well-known/jwks.json",
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": list(document.algorithms),
    }


def _cached(body: bytes, content_type: str, cache_control: str, etag: str = "") -> Page:
    headers = {"Content-Type": content_type, "ETag": etag or entity_tag(body), "Cache-Control": cache_control}
    return Page(body, headers | _CORS | {"X-Content-Type-Options": "nosniff"})


def matches(if_none_match: str, etag: str) -> bool:
    """Return whether If-None-Match matches an entity tag: `*`, or a list, compared weakly (RFC 9110 §13.1.2)."""
    return if_none_match.strip() == "*" or etag in _TAGS.findall(if_none_match)


def handler(pages: Callable[[str], Page]) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Return a request handler for aiohttp that serves pages."""

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "OPTIONS":
            preflight = _CORS | {"Access-Control-Allow-Methods": _METHODS, "Access-Control-Allow-Headers": "*"}
            return web.Response(status=204, headers=preflight | {"Allow": _METHODS, "Access-Control-Max-Age": "86400"})
        if request.method not in {"GET", "HEAD"}:
            return web.Response(status=405, headers=_NO_STORE | {"Allow": _METHODS})
        path = request.rel_url.raw_path
        page = pages(path)
        etag = page.headers.get("ETag")
        if etag is None:
            return web.Response(status=page.status, body=page.body, headers=page.headers)
        asked = ",".join(request.headers.getall("If-None-Match", ()))
        status, body, headers = page.status, page.body, page.headers
        if asked and matches(asked, etag):
            status, body, headers = 304, b"", {k: v for k, v in page.headers.items() if k != "Content-Type"}
        return Repeatable(lambda: pages(path) is page, status=status, body=body, headers=headers)

    return handle
