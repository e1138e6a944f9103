"""A TCP forwarder between the service and a KMS, whose connections die in every way that networks know."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from enum import StrEnum
from typing import Any, Self


class Death(StrEnum):
    """What happens to every connection that exists, with the next bytes that the service sends."""

    RESET = "reset"
    END = "end"
    END_WHILE_IDLE = "end while idle"
    HALF_AN_ANSWER = "half an answer"
    SILENCE = "silence"


class Forwarder:
    """Forwards to one port on loopback.

    Attributes:
        port: Where it listens.
        made: How many connections it has accepted.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._links: set[_Link] = set()
        self.port = 0
        self.made = 0

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Link(self), "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for link in list(self._links):
            link.end()

    def kill(self, death: Death) -> int:
        """Let all connections die, and return how many there were. New ones work."""
        doomed = list(self._links)
        self._links.clear()
        for link in doomed:
            link.doom(death)
        return len(doomed)

    def accept(self, link: _Link) -> int:
        """Count a new connection, and return the port that it goes to."""
        self.made += 1
        self._links.add(link)
        return self._target


class _Link(asyncio.Protocol):
    def __init__(self, forwarder: Forwarder) -> None:
        self._forwarder = forwarder
        self._death: Death | None = None
        self._waiting: list[bytes] = []
        self._far: Any = None
        self._jobs: list[asyncio.Task[None]] = []

    def connection_made(self, transport: Any) -> None:
        self._near = transport
        self._jobs.append(asyncio.ensure_future(self._connect(self._forwarder.accept(self))))

    async def _connect(self, port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._far = writer
        writer.write(b"".join(self._waiting))
        with suppress(OSError):
            while data := await reader.read(65536):
                if self._death is Death.HALF_AN_ANSWER:
                    self._near.write(data[: len(data) // 2])
                    self._near.close()
                elif self._death is None:
                    self._near.write(data)
        writer.close()
        self._near.close()

    def data_received(self, data: bytes) -> None:
        if self._death is Death.RESET:
            self._near.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._near.abort()
        elif self._death is Death.END:
            self._near.close()
        elif self._death in {None, Death.HALF_AN_ANSWER}:
            if self._far is None:
                self._waiting.append(data)
            else:
                self._far.write(data)

    def doom(self, death: Death) -> None:
        self._death = death
        if death is Death.END_WHILE_IDLE:
            self._near.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name in asyncio
        self.end()

    def end(self) -> None:
        for job in self._jobs:
            job.cancel()
        self._near.close()
        if self._far is not None:
            self._far.close()
