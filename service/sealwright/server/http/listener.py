"""An HTTP listener on aiohttp."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from sealwright.server.addresses import Address, CannotListenError
from sealwright.server.http.hosts import for_loopback
from sealwright.server.http.protocol import Server
from sealwright.server.http.public import Page, handler
from sealwright.server.settings import TlsSettings
from sealwright.server.tls import TlsFiles, https_context

_GRACE_SECONDS = 5.0
_BACKLOG = 128


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
        self._runner = web.ServerRunner(Server(answer, name), shutdown_timeout=_GRACE_SECONDS)

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigurationError: The address cannot be bound, or the TLS files cannot be used.
        """
        await self._runner.setup()
        context = None
        if self._tls is not None:
            self._files = TlsFiles(self._tls, "HTTPS", for_grpc=False)
            context = https_context(self._files)
        try:
            await self._site(context).start()
        except OSError as e:
            raise CannotListenError(self._name, self.address, e) from e
        self.address = Address(self.address.host, self._runner.addresses[0][1])

    def _site(self, context: ssl.SSLContext | None) -> web.BaseSite:
        host, port = self.address.host, self.address.port
        if not self.address.every_address:
            return web.TCPSite(self._runner, host, port, ssl_context=context, reuse_port=self._share_port)
        # asyncio would make a socket for IPv6 alone. gRPC listens on both families.
        both = socket.create_server(
            (host, port), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=self._share_port, backlog=_BACKLOG
        )
        return web.SockSite(self._runner, both, ssl_context=context)

    @property
    def certificate_end(self) -> datetime | None:
        """The time at which the certificate in use expires; None: the listener does not use TLS."""
        return self._files.used.end if self._files else None

    async def close(self) -> None:
        """Finish the running requests and close. A second call does nothing."""
        await self._runner.cleanup()
