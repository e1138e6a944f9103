"""Accepts connections within limits, and closes those of strangers that are slow or too many.

When a listener is full, a connection that waits for its client gives way to the new one, the longest wait first. So strangers who
hold connections open cannot keep verifiers away, even from the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, Protocol, TypeVar, cast

from sealwright.server.descriptors import ConnectionLimits
from sealwright.server.peers import Peer
from sealwright.server.shedding import Shed, Shedding

HANDSHAKE_SECONDS: Final = 10.0
"""Longest time for a TLS handshake."""
_ACCEPTED_AT_ONCE: Final = 16
_SWEEP_SECONDS: Final = 1.0
_PAUSE_SECONDS: Final = 0.5
"""How long nothing is accepted after the process has run out of descriptors or memory."""
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_TLS_CLOSE_SECONDS: Final = 90.0
"""Longest time for the end of TLS. Connections have deadlines of their own, which are shorter or as long."""
_HANDSHAKE: Final = b"\x16"
"""The first byte of each TLS connection (RFC 8446 §5.1): `handshake`."""


class Connection(Protocol):
    """A protocol of asyncio that says what it waits for.

    Attributes:
        when_made: Called when the connection is open; with TLS after the handshake.
        when_lost: Called when it has ended.
    """

    when_made: Callable[[], None] | None
    when_lost: Callable[[], None] | None

    @property
    def deadline(self) -> float:
        """Reading of the clock at which it has waited too long for its client."""
        ...

    @property
    def blameless(self) -> bool:
        """Whether a client that lets its time pass has done nothing wrong."""
        ...

    def waiting_since(self) -> float | None:
        """Return since when it has been waiting for its client, or None while it works on a request."""
        ...

    def abort(self) -> None:
        """End it at once."""
        ...


C = TypeVar("C", bound=Connection)


class _Guest(Generic[C]):
    """One accepted socket: first in its TLS handshake, then with a `Connection`."""

    __slots__ = ("connection", "group", "number", "since", "task")

    def __init__(self, number: int, group: str, since: float) -> None:
        self.number = number
        self.group = group
        self.since = since
        self.connection: C | None = None
        self.task: asyncio.Task[None] | None = None

    def waiting_since(self) -> float | None:
        """Return since when it has been waiting for its client, or None while it works on a request."""
        return self.since if self.connection is None else self.connection.waiting_since()

    def close(self) -> None:
        """End it without waiting for anybody."""
        if self.connection is not None:
            self.connection.abort()
        elif self.task is not None:
            self.task.cancel()


class Connections(Generic[C]):
    """The open connections of one listener."""

    def __init__(
        self,
        make: Callable[[Peer], C],
        limits: ConnectionLimits,
        shedding: Shedding,
        clock: Callable[[], float] = time.monotonic,
        *,
        peer: Callable[[socket.socket, Any], Peer],
    ) -> None:
        """Prepare.

        Args:
            make: Makes the protocol of a connection.
            limits: How many connections there may be.
            shedding: Counts those that are closed.
            clock: A stopwatch in seconds.
            peer: Says who is behind an accepted socket with its address.
        """
        self._make = make
        self._limits = limits
        self._shedding = shedding
        self._clock = clock
        self._peer = peer
        self._guests: set[_Guest[C]] = set()
        self._accepted = 0
        self._by_group: Counter[str] = Counter()
        self._sockets: Sequence[socket.socket] = ()
        self._context: Callable[[], ssl.SSLContext] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._guests)

    def open(self) -> list[C]:
        """Return the connections that are open."""
        return [g.connection for g in self._guests if g.connection is not None]

    def start(self, sockets: Iterable[socket.socket], context: Callable[[], ssl.SSLContext] | None) -> None:
        """Accept connections on listening sockets.

        Args:
            sockets: Do not block.
            context: Returns the TLS context of a new connection; None: plaintext. It is not asked for one before the client has
                sent something, since it costs more than the connections of strangers who do nothing.
        """
        self._sockets = tuple(sockets)
        self._context = context
        self._listen()
        self._sweeping = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        """Accept no more, and end the handshakes. The running requests are the server's."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._pause()
        for listening in self._sockets:
            listening.close()
        self._sockets = ()
        handshakes = [g.task for g in self._guests if g.connection is None and g.task is not None]
        for task in handshakes:
            task.cancel()
        await asyncio.gather(*handshakes, return_exceptions=True)

    def sweep(self) -> None:
        """Close the connections whose clients are too slow."""
        now = self._clock()
        for guest in [g for g in self._guests if g.connection is not None]:
            connection = guest.connection
            if connection is not None and now >= connection.deadline:
                if not connection.blameless:
                    self._shedding.count(Shed.SLOW)
                connection.abort()
        self._shedding.report()

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            self.sweep()

    def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.add_reader(listening.fileno(), self._accept, listening)

    def _pause(self) -> None:
        loop = asyncio.get_running_loop()
        for listening in self._sockets:
            loop.remove_reader(listening.fileno())

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_ACCEPTED_AT_ONCE):
            try:
                accepted, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as e:
                if e.errno in _EXHAUSTED:
                    self._shedding.count(Shed.DESCRIPTORS)
                    self._make_room(self._guests)
                    self._pause()
                    asyncio.get_running_loop().call_later(_PAUSE_SECONDS, self._listen)
                return
            self._admit(accepted, peer)

    def _admit(self, accepted: socket.socket, address: Any) -> None:
        """Take a connection, in place of another one if there are too many, or refuse it."""
        try:
            peer = self._peer(accepted, address)
        except OSError:  # it has ended meanwhile
            accepted.close()
            return
        room = True
        if self._by_group[peer.group] >= self._limits.per_address:
            self._shedding.count(Shed.ADDRESS_LIMIT)
            room = self._make_room([g for g in self._guests if g.group == peer.group])
        elif len(self._guests) >= self._limits.total:
            self._shedding.count(Shed.LIMIT)
            room = self._make_room(self._guests)
        if not room:
            accepted.close()
            return
        accepted.settimeout(0)
        self._accepted += 1
        guest: _Guest[C] = _Guest(self._accepted, peer.group, self._clock())
        self._guests.add(guest)
        self._by_group[peer.group] += 1
        guest.task = asyncio.create_task(self._open(guest, accepted, peer))
        guest.task.add_done_callback(lambda _: self._opened(guest, accepted))

    def _make_room(self, guests: Iterable[_Guest[C]]) -> bool:
        """End the connection that has been waiting for its client for the longest time; return whether there is one."""
        waiting = [(since, g.number, g) for g in guests if (since := g.waiting_since()) is not None]
        if not waiting:
            return False
        guest = min(waiting)[2]
        self._forget(guest)
        guest.close()
        return True

    def _forget(self, guest: _Guest[C]) -> None:
        if guest in self._guests:
            self._guests.discard(guest)
            self._by_group[guest.group] -= 1
            if self._by_group[guest.group] <= 0:
                del self._by_group[guest.group]

    async def _open(self, guest: _Guest[C], accepted: socket.socket, peer: Peer) -> None:
        """Shake hands, and hand the connection to its protocol."""

        def made() -> asyncio.BaseProtocol:
            connection = self._make(peer)
            connection.when_made = lambda: self._made(guest, connection)
            connection.when_lost = lambda: self._forget(guest)
            return cast("asyncio.BaseProtocol", connection)

        loop = asyncio.get_running_loop()
        times: dict[str, Any] = {}
        try:
            if self._context is not None:
                async with asyncio.timeout(HANDSHAKE_SECONDS):
                    await _readable(loop, accepted)
                if accepted.recv(1, socket.MSG_PEEK) != _HANDSHAKE:
                    return
                times = {"ssl": self._context(), "ssl_handshake_timeout": HANDSHAKE_SECONDS}
                times["ssl_shutdown_timeout"] = _TLS_CLOSE_SECONDS
            await loop.connect_accepted_socket(made, accepted, **times)
        except (OSError, ssl.SSLError, TimeoutError) as e:
            if isinstance(e, TimeoutError | ConnectionAbortedError):
                self._shedding.count(Shed.SLOW)

    def _opened(self, guest: _Guest[C], accepted: socket.socket) -> None:
        """Close what has not become a connection. This runs even if the task was cancelled before it began."""
        if guest.connection is None:
            self._forget(guest)
            with contextlib.suppress(OSError):
                accepted.close()

    def _made(self, guest: _Guest[C], connection: C) -> None:
        guest.connection = connection
        if guest not in self._guests:  # it had to give way meanwhile
            connection.abort()


async def _readable(loop: asyncio.AbstractEventLoop, accepted: socket.socket) -> None:
    """Wait until a client has sent something, or has ended the connection."""
    come: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not come.done():
            come.set_result(None)

    loop.add_reader(accepted.fileno(), note)
    try:
        await come
    finally:
        loop.remove_reader(accepted.fileno())
