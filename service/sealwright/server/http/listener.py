"""An HTTP listener on aiohttp."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final

from sealwright.server.addresses import Address, CannotListenError
from sealwright.server.connections import Connections
from sealwright.server.descriptors import ConnectionLimits
from sealwright.server.http.hosts import for_loopback
from sealwright.server.http.protocol import Connection, Server
from sealwright.server.http.public import Page, handler
from sealwright.server.peers import Peer, tcp_peer
from sealwright.server.settings import TlsSettings
from sealwright.server.shedding import Shedding
from sealwright.server.sockets import listen
from sealwright.server.tls import TlsFiles, https_context

_GRACE_SECONDS: Final = 5.0


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
        self._connections = Connections(self._connection, limits, Shedding(name), peer=tcp_peer)

    def _connection(self, _peer: Peer) -> Connection:
        return self._server()

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
            sockets = await listen(self.address, share_port=self._share_port)
        except OSError as e:
            raise CannotListenError(self._name, self.address, e) from e
        self.address = Address(self.address.host, sockets[0].getsockname()[1])
        self._connections.start(sockets, None if context is None else lambda: context)

    @property
    def certificate_end(self) -> datetime | None:
        """The time at which the certificate in use expires; None: the listener does not use TLS."""
        return self._files.used.end if self._files else None

    async def close(self) -> None:
        """Finish the running requests and close. A second call does nothing."""
        await self._connections.close()
        self._server.pre_shutdown()
        await self._server.shutdown(_GRACE_SECONDS)
