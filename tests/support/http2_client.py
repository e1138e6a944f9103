"""What the tests of the client of HTTP/2 share: a pool on a peer, and what peers do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from sealwright.http2 import frames
from sealwright.http2.frames import Code, Kind
from sealwright_providers.dial import Server
from sealwright_providers.http2.pool import Pool
from sealwright_providers.http2.requests import Answer
from support.http2_peer import OK, TRAILERS, Peer, Side, answer, block

SECONDS = 5.0
BLOCK = block([(b":method", b"POST"), (b":path", b"/x")])
GOOD = Answer(dict(OK), b"ok", dict(TRAILERS))


@asynccontextmanager
async def pool(peer: Peer) -> AsyncIterator[Pool]:
    async with peer:
        one = Pool(Server("127.0.0.1", peer.port))
        try:
            yield one
        finally:
            await one.aclose()


async def ask(one: Pool, body: bytes = b"?", *, timeout: float = SECONDS, repeatable: bool = True) -> Answer:
    return await one.request(BLOCK, body, timeout=timeout, repeatable=repeatable)


async def good(side: Side, stream: int) -> None:
    side.send(answer(stream))


def sends(data: bytes, *more: tuple[int, int]) -> Peer:
    """Return a peer that answers with these bytes."""

    async def on_request(side: Side, _: int) -> None:
        side.send(data)

    return Peer(on_request, *more)


def one_at_a_time(seconds: float = 0.02) -> Callable[[Side, int], Awaitable[None]]:
    """Return what a server does that allows one request at a time on a connection, and ends others as the C core of gRPC does."""

    async def slow(side: Side, stream: int) -> None:
        if getattr(side, "busy", False):
            side.send(frames.frame(Kind.RST_STREAM, 0, stream, frames.number(Code.ENHANCE_YOUR_CALM)))
            return
        side.busy = True  # type: ignore[attr-defined]

        def done() -> None:
            side.busy = False  # type: ignore[attr-defined]
            side.send(answer(stream))

        asyncio.get_running_loop().call_later(seconds, done)

    return slow
