"""Keeps room on the gRPC port for callers, when strangers hold connections open.

gRPC bounds the number of connections and the time of a handshake, but not the connections of one address, and a full listener
refuses everybody. Its sockets are descriptors of this process, so this module closes the ones that have been silent for the longest
time. It works on duplicates, which cannot become other files meanwhile, and it never touches the path of a call.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from sealwright.server.descriptors import ConnectionLimits
from sealwright.server.shedding import Shed, Shedding

_INTERVAL_SECONDS: Final = 0.25
_RECOUNT_SECONDS: Final = 5.0
"""How long the number of other descriptors (the store, the KMS, the audit) is taken for unchanged."""
_LAST_DATA_RECEIVED: Final = struct.Struct("=52xI")
"""The field `tcpi_last_data_recv` of `struct tcp_info` (linux/tcp.h), in milliseconds."""
_DESCRIPTORS: Final = "/proc/self/fd"


@dataclass(frozen=True, slots=True)
class _Connection:
    ours: socket.socket
    address: str
    silent: int


class Crowding:
    """Watches the connections of one port."""

    def __init__(
        self, port: int, limits: ConnectionLimits, shedding: Shedding, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._others = 0
        self._recount = 0.0
        self._port = port
        self._shedding = shedding
        # Some room must always be free: gRPC refuses whatever exceeds the limit.
        self._total = _mark(limits.total)
        self._per_address = _mark(limits.per_address)

    async def run(self) -> None:
        """Look again and again."""
        while True:
            self.look()
            await asyncio.sleep(_INTERVAL_SECONDS)

    def look(self) -> None:
        """Close what is too much."""
        try:
            names = os.listdir(_DESCRIPTORS)  # noqa: PTH208 - names are enough, four times a second
        except OSError:
            return
        now = self._clock()
        if now >= self._recount:
            self._others = 0
        if len(names) - self._others > self._per_address:
            self._recount = now + _RECOUNT_SECONDS
            with contextlib.ExitStack() as stack:
                connections = list(self._connections(names, stack))
                self._others = len(names) - len(connections)
                by_address = defaultdict(list)
                for connection in connections:
                    by_address[connection.address].append(connection)
                kept = [
                    c for group in by_address.values() for c in self._thin(group, self._per_address, Shed.ADDRESS_LIMIT)
                ]
                self._thin(kept, self._total, Shed.LIMIT)
        self._shedding.report()

    def _connections(self, names: list[str], stack: contextlib.ExitStack) -> Iterator[_Connection]:
        for name in names:
            with contextlib.suppress(OSError):
                if not os.readlink(f"{_DESCRIPTORS}/{name}").startswith("socket:"):  # noqa: PTH115 - as above
                    continue
                ours = stack.enter_context(socket.socket(fileno=os.dup(int(name))))
                if ours.family not in {socket.AF_INET, socket.AF_INET6} or ours.getsockname()[1] != self._port:
                    continue
                peer = ours.getpeername()
                info = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_DATA_RECEIVED.size)
                yield _Connection(ours, peer[0], _LAST_DATA_RECEIVED.unpack(info)[0])

    def _thin(self, connections: list[_Connection], most: int, reason: Shed) -> list[_Connection]:
        """Close connections until there are at most so many, the longest silence first, and return the others."""
        connections.sort(key=lambda c: c.silent)
        for connection in connections[most:]:
            with contextlib.suppress(OSError):
                connection.ours.shutdown(socket.SHUT_RDWR)
                self._shedding.count(reason)
        return connections[:most]


def _mark(limit: int) -> int:
    return max(1, limit * 7 // 8)
