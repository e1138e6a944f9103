"""Connections of strangers, and a listener whose clock the test moves."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

from sealwright.server.connections import Connections
from sealwright.server.descriptors import ConnectionLimits
from sealwright.server.http.protocol import Server
from sealwright.server.http.public import Page, handler
from sealwright.server.peers import tcp_peer
from sealwright.server.shedding import Shedding
from support.service import until

HALF = b"GET /healthz HTTP/1.1\r\nHost: loc"
WHOLE = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextlib.contextmanager
def connections(address: str, number: int, sent: bytes, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    """Open connections that send some bytes and then nothing."""
    host, _, port = address.rpartition(":")
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(number):
            one = stack.enter_context(socket.socket())
            one.bind((source, 0))
            one.connect((host, int(port)))
            with contextlib.suppress(ConnectionError):
                one.sendall(sent)
            opened.append(one)
        yield opened


def ended(one: socket.socket) -> bool:
    """Return whether the other side has closed."""
    one.settimeout(0)
    try:
        while one.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


async def answered(one: socket.socket) -> None:
    """Wait until the other side has sent something."""
    one.settimeout(0)

    async def done() -> bool:
        try:
            return bool(one.recv(65536))
        except BlockingIOError:
            return False

    await until(done)


async def closed(some: list[socket.socket], number: int | None = None) -> None:
    """Wait until the other side has closed this number of them, or all."""
    gone: set[socket.socket] = set()

    async def done() -> bool:
        gone.update(one for one in some if one not in gone and ended(one))
        return len(gone) >= (len(some) if number is None else number)

    await until(done)
    assert number is None or len(gone) == number


class Door:
    """The connections of a listener whose clock the test moves."""

    def __init__(self, total: int, per_address: int, **more: Any) -> None:
        self.clock = Clock()
        self.release = asyncio.Event()

        async def handle(request: Any) -> Any:
            if request.path == "/slow":
                await self.release.wait()
            body = b"x" * 50_000 if request.path == "/large" else b"ok"
            return await handler(lambda _: Page(body))(request)

        server = Server(handle, "http", self.clock)
        self.connections = Connections(
            lambda _: server(),
            ConnectionLimits(total, per_address),
            Shedding("http", self.clock),
            self.clock,
            peer=tcp_peer,
        )
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listening.settimeout(0)
        self.address = f"127.0.0.1:{listening.getsockname()[1]}"
        tls = more.get("tls")
        self.connections.start([listening], (lambda: tls) if tls else None)

    async def holds(self, number: int) -> None:
        async def done() -> bool:
            return len(self.connections) == number

        await until(done)

    async def later(self, seconds: float) -> None:
        for _ in range(5):  # Whatever has arrived is read and answered first, even if this process gets its turn late.
            await asyncio.sleep(0.01)
        self.clock.now += seconds
        self.connections.sweep()
