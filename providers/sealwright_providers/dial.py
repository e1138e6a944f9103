"""Opens connections: addresses of the server, TCP options, a proxy, TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import aiohappyeyeballs

from sealwright.provider import ConfigurationError

P = TypeVar("P", bound=asyncio.BaseProtocol)

_ADDRESSES_SECONDS: Final = 10.0
_NEXT_ADDRESS_SECONDS: Final = 0.25
"""After this time without a connection the next address is tried too (RFC 8305 §5)."""
_MAX_PROXY_ANSWER: Final = 8 * 1024
_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 1000),
)
"""tcp(7): a path that died silently is noticed after 20 s of idling, or when sent data is not acknowledged for a second."""


class ConnectionDiedError(ConnectionError):
    """The connection ended before the whole answer had come."""


class BadAnswerError(Exception):
    """The server sent something that is not an answer of the protocol, or an answer that is too long."""


class PoolClosedError(OSError):
    """The pool has been closed."""


class ProxyRefusedError(OSError):
    """The proxy did not open a tunnel."""


@dataclass(frozen=True, slots=True)
class Server:
    """Where connections go.

    Attributes:
        host: Name or address. Names under `localhost` are the loopback address, as RFC 6761 §6.3 asks.
        port: Port.
        context: TLS context; None: plaintext.
        proxy: Host and port of a proxy for tunnels (RFC 9110 §9.3.6); None: directly.
        proxy_authorization: Value of Proxy-Authorization; empty: none.
    """

    host: str
    port: int
    context: ssl.SSLContext | None = field(default=None, repr=False)
    proxy: tuple[str, int] | None = None
    proxy_authorization: str = field(default="", repr=False)


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """Return a context that trusts the certificates of a file, or those of the system. Reads files.

    Raises:
        ConfigurationError: The file cannot be used.
    """
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as e:
        raise ConfigurationError([f"ca_file: {ca_file}: cannot be used ({type(e).__name__})"]) from e


class Dialer(Generic[P]):
    """Opens connections to one server. It keeps the addresses of the server for a short time."""

    def __init__(self, server: Server, protocol: Callable[[asyncio.AbstractEventLoop], P]) -> None:
        self._server = server
        self._protocol = protocol
        self._first_hop = server.proxy or (server.host, server.port)
        self._addresses: list[Any] = []
        self._known_until = 0.0
        self._resolving = asyncio.Lock()

    async def open(self) -> P:
        """Open a connection.

        Raises:
            OSError: It cannot be opened; ssl.SSLError if TLS cannot be agreed on.
        """
        loop = asyncio.get_running_loop()
        server = self._server
        try:
            connected = await aiohappyeyeballs.start_connection(
                await self._resolve(loop), happy_eyeballs_delay=_NEXT_ADDRESS_SECONDS, loop=loop
            )
        except OSError:
            self._known_until = 0.0
            raise
        try:
            for option in _OPTIONS:
                connected.setsockopt(*option)
            if server.proxy is not None:
                await self._tunnel(loop, connected)
            name = server.host if server.context is not None else None
            _, connection = await loop.create_connection(
                lambda: self._protocol(loop), sock=connected, ssl=server.context, server_hostname=name
            )
        except BaseException:
            connected.close()
            raise
        return connection

    async def _resolve(self, loop: asyncio.AbstractEventLoop) -> list[Any]:
        async with self._resolving:
            if loop.time() >= self._known_until:
                host, port = self._first_hop
                if host.endswith(".localhost"):
                    host = "127.0.0.1"
                self._addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                self._known_until = loop.time() + _ADDRESSES_SECONDS
            return self._addresses

    async def _tunnel(self, loop: asyncio.AbstractEventLoop, connected: socket.socket) -> None:
        host = f"[{self._server.host}]" if ":" in self._server.host else self._server.host
        authority = f"{host}:{self._server.port}"
        lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
        if self._server.proxy_authorization:
            lines.append(f"Proxy-Authorization: {self._server.proxy_authorization}")
        await loop.sock_sendall(connected, "\r\n".join([*lines, "", ""]).encode("ascii"))
        answer = b""
        while b"\r\n\r\n" not in answer:
            # One byte at a time: what follows the head already belongs to TLS.
            received = await loop.sock_recv(connected, 1)
            answer += received
            if not received or len(answer) > _MAX_PROXY_ANSWER:
                raise ProxyRefusedError("the proxy closed the connection")
        status = answer.split(b"\r\n", 1)[0].split(b" ")
        if len(status) < 2 or not status[1].startswith(b"2"):  # noqa: PLR2004 - a status line has a version and a code
            raise ProxyRefusedError("the proxy refused the tunnel")
