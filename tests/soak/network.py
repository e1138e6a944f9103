"""Connections that can be cut and killed: a proxy in front of each database, KMS and replica, and the balancer of verifiers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

Target = Path | tuple[str, int]
"""A Unix socket, or a host and a port."""
Pick = Callable[[], Sequence[Target]]
"""Returns the targets of a new connection; the first one that accepts it gets it."""

_CHUNK = 65536
_CONNECT_SECONDS = 2.0
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False)
class Proxy:
    """Forwards connections.

    Attributes:
        pick: Where to.
        socket: Listen on this Unix socket; None: on a free port of loopback.
        silent: Whether nothing passes for now, in both directions. Connections stay open, as behind a broken switch.
        made: How many connections there have been.
    """

    pick: Pick
    socket: Path | None = None
    silent: bool = False
    made: int = 0
    _links: set[asyncio.Task[None]] = field(default_factory=set)
    _open: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self._open.set()
        if self.socket is not None:
            self._server: asyncio.Server = await asyncio.start_unix_server(self._accept, self.socket)
        else:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.kill()
        await asyncio.gather(*self._links, return_exceptions=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.sockets[0].getsockname()[1])

    def cut(self) -> None:
        """Let nothing pass until `mend`."""
        self.silent = True
        self._open.clear()

    def mend(self) -> None:
        """Let everything pass again. What waited arrives now, unless a side has given up."""
        self.silent = False
        self._open.set()

    def kill(self) -> int:
        """Let all connections die, and return how many there were. New ones work."""
        for link in self._links:
            link.cancel()
        return len(self._links)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made += 1
        link = asyncio.ensure_future(self._forward(reader, writer))
        self._links.add(link)
        link.add_done_callback(self._links.discard)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            await self._open.wait()
            found = await self._connect()
            if found is not None:
                far = found[1]
                ways = [self._pump(reader, far), self._pump(found[0], writer)]
                await _until_one_ends(ways)
        except asyncio.CancelledError:
            for each in (writer, far):
                if each is not None:
                    each.transport.abort()
        finally:
            for each in (writer, far):
                if each is not None:
                    each.close()

    async def _connect(self) -> Streams | None:
        for target in self.pick():
            opening = (
                asyncio.open_unix_connection(target)
                if isinstance(target, Path)
                else asyncio.open_connection(target[0], target[1])
            )
            with suppress(OSError, TimeoutError):
                return await asyncio.wait_for(opening, _CONNECT_SECONDS)
        return None

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()


async def _until_one_ends(ways: Iterable[Awaitable[None]]) -> None:
    tasks = [asyncio.ensure_future(way) for way in ways]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
