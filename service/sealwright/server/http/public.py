"""The public listener: JWK Sets, discovery, PEM and health, from memory, never waiting for a KMS or a database."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web

from sealwright.issuer_settings import IssuerSettings
from sealwright.keys.keyring import JwksDocument, Keyring, entity_tag

_TAGS = re.compile(r'(?:W/)?("[^"]*")')
_CORS: Final = {"Access-Control-Allow-Origin": "*"}
_NO_STORE: Final = _CORS | {"Cache-Control": "no-store"}
_METHODS: Final = "GET, HEAD, OPTIONS"
_JSON: Final = "application/json"
PEM: Final = ".pem"
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


def _text(status: int, text: str, headers: Mapping[str, str] = _NO_STORE) -> Page:
    return Page(f"{text}\n".encode(), {"Content-Type": "text/plain; charset=utf-8", **headers}, status)


class PublicPages:
    """The public paths and where their bytes come from: a dictionary, made anew for an issuer whose JWK Set has changed."""

    def __init__(self, keyring: Keyring, *, alive: Callable[[], bool]) -> None:
        self._keyring = keyring
        self._alive = alive
        self._health: dict[str, Callable[[], Page]] = {
            "/healthz": lambda: _text(200, "ok"),
            "/readyz": self._ready,
            "/readyz/jwks": self._jwks_ready,
        }
        self._issuers = {path: name for name, s in keyring.settings.items() for path in fixed_paths(s)}
        self._pem_folders = {f"{s.path}/keys": name for name, s in keyring.settings.items()}
        self._pages: dict[str, tuple[JwksDocument, Mapping[str, Page]]] = {}

    def page(self, path: str) -> Page:
        """Return what a path answers; its query is not part of it."""
        health = self._health.get(path)
        if health is not None:
            return health()
        issuer = self._issuers.get(path)
        if issuer is None and path.endswith(PEM):
            issuer = self._pem_folders.get(path.rpartition("/")[0])
        if issuer is None:
            return _text(404, "not found")
        document = self._keyring.document(issuer)
        if document is None:
            # A verifier that gets 503 goes on with what it has; one that got an empty set would trust nobody.
            return _text(503, "no JWK Set yet", _NO_STORE | _RETRY_AFTER)
        known = self._pages.get(issuer)
        if known is None or known[0] is not document:
            known = self._pages[issuer] = (document, issuer_pages(self._keyring.settings[issuer], document))
        return known[1].get(path) or _text(404, "not found")

    def _ready(self) -> Page:
        stuck = [n for n in self._keyring.settings if not self._keyring.can_sign(n)]
        return self._verdict(stuck, "cannot sign")

    def _jwks_ready(self) -> Page:
        return self._verdict(
            [n for n in self._keyring.settings if self._keyring.document(n) is None], "have no JWK Set"
        )

    def _verdict(self, stuck: Sequence[str], problem: str) -> Page:
        if not self._alive():
            return _text(503, "shutting down", _NO_STORE | _RETRY_AFTER)
        if stuck:
            return _text(503, f"{len(stuck)} issuers {problem}", _NO_STORE | _RETRY_AFTER)
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
    """Return the metadata of OpenID Connect Discovery 1.0 §3 and RFC 8414 §2 that an issuer of tokens alone has.

    It has no endpoints for authorization or tokens, as the metadata of a Kubernetes cluster has none; and the algorithms are
    those of the published keys, also where RS256, which OpenID Connect wants in the list, is not among them.
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
