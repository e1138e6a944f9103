"""An HTTP listener on aiohttp."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable
from datetime import datetime
from typing import Final

from sealwright.server.addresses import Address, CannotListenError
from sealwright.server.descriptors import ConnectionLimits
from sealwright.server.http.connections import Connections
from sealwright.server.http.hosts import for_loopback
from sealwright.server.http.protocol import Server
from sealwright.server.http.public import Page, handler
from sealwright.server.settings import TlsSettings
from sealwright.server.shedding import Shedding
from sealwright.server.tls import TlsFiles, https_context

_GRACE_SECONDS: Final = 5.0
_BACKLOG: Final = 1024
_NO_SUCH_FAMILY: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class HttpListener:
    """Serves pages on one address.

    Attributes:
        address: The address; its port is the real one after `start`.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        pages: Callable[[str], Page],
        limits: ConnectionLimits,
        *,
        tls: TlsSettings | None = None,
        share_port: bool = False,
        only_loopback: bool = False,
    ) -> None:
        """Prepare.

        Args:
            name: Name of its setting.
            address: Where it listens.
            pages: The answers, by path.
            limits: How many connections it may have open.
            tls: Files for HTTPS; None: plaintext.
            share_port: Whether other workers listen on the same port.
            only_loopback: Whether to answer only requests whose header Host names loopback.
        """
        self.address = address
        self._name = name
        self._tls = tls
        self._share_port = share_port
        self._files: TlsFiles | None = None
        answer = for_loopback(handler(pages)) if only_loopback else handler(pages)
        self._server = Server(answer, name)
        self._connections = Connections(self._server, limits, Shedding(name))

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigurationError: The address cannot be bound, or the TLS files cannot be used.
        """
        context = None
        if self._tls is not None:
            self._files = TlsFiles(self._tls, "HTTPS", for_grpc=False)
            context = https_context(self._files)
        try:
            sockets = await self._bind()
        except OSError as e:
            raise CannotListenError(self._name, self.address, e) from e
        self.address = Address(self.address.host, sockets[0].getsockname()[1])
        self._connections.start(sockets, context)

    async def _bind(self) -> list[socket.socket]:
        """Return a listening socket for each address of the host; `[::]` has one for both families, as in gRPC."""
        host, port = self.address.host, self.address.port
        found = await asyncio.get_running_loop().getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        with contextlib.ExitStack() as bound:
            sockets: list[socket.socket] = []
            missing: OSError | None = None
            for family, address in dict.fromkeys((f[0], f[4]) for f in found):
                place = (address[0], port or (sockets[0].getsockname()[1] if sockets else 0), *address[2:])
                try:
                    listening = self._socket(family, place)
                except OSError as e:
                    if e.errno not in _NO_SUCH_FAMILY:
                        raise
                    missing = e
                    continue
                sockets.append(bound.enter_context(listening))
            if not sockets:
                raise missing or OSError(errno.EADDRNOTAVAIL, "no such address")
            bound.pop_all()
        return sockets

    def _socket(self, family: int, place: tuple[object, ...]) -> socket.socket:
        listening = socket.create_server(
            place,
            family=family,
            backlog=_BACKLOG,
            reuse_port=self._share_port,
            dualstack_ipv6=self.address.every_address,
        )
        listening.settimeout(0)
        return listening

    @property
    def certificate_end(self) -> datetime | None:
        """The time at which the certificate in use expires; None: the listener does not use TLS."""
        return self._files.used.end if self._files else None

    async def close(self) -> None:
        """Finish the running requests and close. A second call does nothing."""
        await self._connections.close()
        self._server.pre_shutdown()
        await self._server.shutdown(_GRACE_SECONDS)
