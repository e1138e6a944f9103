"""The gRPC listener."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import ssl
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from typing import Any, Final

from grpc_health.v1 import health as health_names
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from sealwright.errors import ConfigurationError
from sealwright.server.addresses import Address, CannotListenError, UnixSocket
from sealwright.server.connections import Connections
from sealwright.server.descriptors import ConnectionLimits
from sealwright.server.http2.connection import Connection
from sealwright.server.http2.stream import Stream
from sealwright.server.peers import Peer, certificates, tcp_peer
from sealwright.server.rpc.call import Call
from sealwright.server.rpc.caller_certificates import CallerCertificates
from sealwright.server.rpc.heads import TOO_LONG, UNKNOWN_METHOD, Head, read_head
from sealwright.server.rpc.interceptors import Boundary
from sealwright.server.rpc.library import Library
from sealwright.server.settings import ServerSettings
from sealwright.server.shedding import Shedding
from sealwright.server.socket_file import SocketFile
from sealwright.server.sockets import UnixListener, listen
from sealwright.server.tls import TlsFiles, grpc_context

SIGNING: Final = "sealwright.v1.SigningService"
SERVICES: Final = ("", SIGNING, "sealwright.v1.JwksService", "sealwright.v1.KeyService")

_DRAIN_PAUSE: Final = 0.2
"""Seconds for which the listener refuses new calls before it ends connections; see `Boundary`."""
_TEND_SECONDS: Final = 0.1
_POLL_SECONDS: Final = 0.02
_CLOSING_SECONDS: Final = 3.0
"""How long clients have for taking their answers, at the end."""

AddServices = Callable[[Boundary], None]


class _Connection(Connection[Head]):
    """A connection that knows its client's certificates."""

    def __init__(self, peer: Peer, begin: Callable[[Peer, Stream], None]) -> None:
        super().__init__(read_head, TOO_LONG, partial(begin, peer))
        self._peer = peer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self._peer.certificates = certificates(tls)
        super().connection_made(transport)


class GrpcListener:
    """Serves RPCs until it is drained.

    Attributes:
        address: The address; its port is the real one after `start`.
    """

    def __init__(
        self,
        settings: ServerSettings,
        boundary: Boundary,
        add_services: AddServices,
        limits: ConnectionLimits,
        *,
        callers: CallerCertificates,
        share_port: bool,
    ) -> None:
        self.address = settings.grpc
        self._settings = settings
        self._boundary = boundary
        self._limits = limits
        self._callers = callers
        self._share_port = share_port
        self._jobs: list[asyncio.Task[None]] = []
        self._refusing: set[asyncio.Task[None]] = set()
        self._files: TlsFiles | None = None
        self._socket_file: SocketFile | None = None
        self._unix: UnixListener | None = None
        self._connections: Connections[_Connection] | None = None
        if isinstance(settings.grpc, UnixSocket):
            self._socket_file = SocketFile(settings.grpc.path)
        add_services(boundary)
        self._methods = dict(boundary.methods)
        self._health = health.HealthServicer()
        self._methods |= _library(self._health, reflects=settings.reflection)

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigurationError: The address cannot be bound, or the TLS files cannot be used.
        """
        await self.set_serving(signing=False)
        context = self._context()
        try:
            sockets = await self._listen()
        except OSError as e:
            if self._socket_file is not None:
                self._socket_file.unlock()
            raise CannotListenError("grpc", self.address, e) from e
        peer = tcp_peer if self._unix is None else self._unix.peer
        make = partial(_Connection, begin=self._begin)
        self._connections = Connections(make, self._limits, Shedding("grpc"), peer=peer)
        self._connections.start(sockets, context)
        jobs = (self._boundary.receiving.run(), self._boundary.admission.run(), self._boundary.run(), self._tend())
        self._jobs += [asyncio.create_task(job) for job in jobs]

    async def _listen(self) -> list[socket.socket]:
        address = self.address
        if isinstance(address, UnixSocket):
            if self._socket_file is not None:
                await self._socket_file.take()
            self._unix = UnixListener(address.path)
            return [self._unix.socket]
        sockets = await listen(address, share_port=self._share_port)
        self.address = Address(address.host, sockets[0].getsockname()[1])
        return sockets

    def _context(self) -> Callable[[], ssl.SSLContext] | None:
        settings = self._settings
        if isinstance(settings.grpc, UnixSocket) or settings.insecure_local:
            return None
        if settings.tls is None:
            raise ConfigurationError(["server.tls: must be given"])
        self._files = TlsFiles(settings.tls, "gRPC", for_grpc=True)
        self._callers.use(self._files)
        return grpc_context(self._files)

    def _begin(self, peer: Peer, stream: Stream) -> None:
        """Begin a call."""
        head: Head = stream.head
        call = Call(stream, peer)
        begin = self._methods.get(head.path)
        if head.refusal is None and begin is not None:
            begin(call)
            return
        task = asyncio.create_task(call.refuse(head.refusal or UNKNOWN_METHOD))
        self._refusing.add(task)
        task.add_done_callback(self._refusing.discard)
        stream.on_lost = task.cancel

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(_TEND_SECONDS)
            for connection in self._open():
                connection.tend()

    def _open(self) -> list[_Connection]:
        return [] if self._connections is None else self._connections.open()

    @property
    def certificate_end(self) -> datetime | None:
        """The time at which the certificate in use expires; None: the listener does not use TLS."""
        return self._files.used.end if self._files else None

    async def set_serving(self, *, signing: bool) -> None:
        """Report over grpc.health.v1 whether tokens can be signed. The other services always serve."""
        for name in SERVICES:
            up = signing or name not in {"", SIGNING}
            status = health_pb2.HealthCheckResponse.SERVING if up else health_pb2.HealthCheckResponse.NOT_SERVING
            await self._health.set(name, status)

    async def drain(self) -> None:
        """Refuse new calls, wait for the running calls to end, and close."""
        self._boundary.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._health.enter_graceful_shutdown()
        self._boundary.receiving.drain()
        for connection in self._open():
            connection.leave()
        await asyncio.sleep(_DRAIN_PAUSE)
        if self._connections is not None:
            await self._connections.close()
            await self._end_connections()
        if self._unix is not None:
            self._unix.remove()
        await self._boundary.idle()
        self._boundary.report()
        for job in self._jobs:
            job.cancel()
        if self._socket_file is not None:
            self._socket_file.unlock()

    async def _end_connections(self) -> None:
        for connection in self._open():
            connection.finish()
        await self._until(lambda: not any(c.busy for c in self._open()), self._settings.drain_seconds)
        await self._until(lambda: not self._open(), _CLOSING_SECONDS)
        for connection in self._open():
            connection.abort()

    @staticmethod
    async def _until(done: Callable[[], bool], seconds: float) -> None:
        for _ in range(math.ceil(seconds / _POLL_SECONDS)):
            if done():
                return
            await asyncio.sleep(_POLL_SECONDS)


def _library(servicer: health.HealthServicer, *, reflects: bool) -> Mapping[str, Callable[[Call], None]]:
    """Return the methods of health and, if wanted, of reflection."""
    library: Any = Library()
    health_pb2_grpc.add_HealthServicer_to_server(servicer, library)
    if reflects:
        names = (*SERVICES[1:], health_names.SERVICE_NAME, reflection.SERVICE_NAME)
        add: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        add(reflection.aio.ReflectionServicer(names), library)
    return dict(library.methods)
