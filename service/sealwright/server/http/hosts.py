"""A guard against DNS rebinding: a web page whose name suddenly resolves to 127.0.0.1 could read a listener on loopback."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion11, web

from sealwright.server.addresses import Address, parse_address

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def for_loopback(handle: Handler) -> Handler:
    """Return a handler that answers only requests to names and addresses of loopback, and others with 421 (RFC 9110 §15.5.20).

    HTTP/1.0 does not need the header Host, and browsers do not use this version.
    """

    async def guarded(request: web.BaseRequest) -> web.StreamResponse:
        hosts = request.headers.getall("Host", ())
        if not hosts and request.version >= HttpVersion11:
            return web.Response(status=400, text="the header Host is missing\n")
        if len(hosts) > 1 or not all(map(is_loopback, hosts)):
            return web.Response(status=421, text="this listener is for localhost and loopback addresses\n")
        return await handle(request)

    return guarded


def is_loopback(host: str) -> bool:
    """Return whether a header Host names this machine's loopback."""
    for text in (host, f"{host}:0"):  # the port may be left out
        try:
            address = parse_address(text.lower())
        except ValueError:
            continue
        return Address(address.host.removesuffix("."), 0).loopback
    return False
