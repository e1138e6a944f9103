"""An HTTP listener on aiohttp."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from sealwright.errors import ConfigurationError
from sealwright.server.http.public import Page, handler
from sealwright.server.settings import Address, TlsSettings
from sealwright.server.tls import https_context

_GRACE_SECONDS = 5.0


class HttpListener:
    """Serves pages on one address."""

    def __init__(
        self,
        name: str,
        address: Address,
        pages: Callable[[str], Page],
        *,
        tls: TlsSettings | None = None,
        share_port: bool = False,
    ) -> None:
        self._name = name
        self._bind = address
        self._tls = tls
        self._share_port = share_port
        self._runner = web.ServerRunner(web.Server(handler(pages), access_log=None), shutdown_timeout=_GRACE_SECONDS)  # type: ignore[arg-type]
        self.address = ""

    async def start(self) -> None:
        """Bind and serve. `address` then says where.

        Raises:
            ConfigurationError: The address cannot be bound, or the TLS files cannot be used.
        """
        await self._runner.setup()
        context = https_context(self._tls) if self._tls else None
        site = web.TCPSite(
            self._runner, self._bind.host, self._bind.port, ssl_context=context, reuse_port=self._share_port
        )
        try:
            await site.start()
        except OSError as e:
            raise ConfigurationError([f"server.{self._name}: cannot listen there: {e.strerror}"]) from e
        port = self._runner.addresses[0][1]
        self.address = str(Address(self._bind.host, port))

    async def close(self) -> None:
        """Finish the answers under way and close. May be called twice."""
        await self._runner.cleanup()
