"""The gRPC listener."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, cast

import grpc
from grpc_health.v1 import health as health_names
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from sealwright.errors import ConfigurationError
from sealwright.server.addresses import Address, CannotListenError, UnixSocket
from sealwright.server.descriptors import ConnectionLimits
from sealwright.server.rpc.caller_certificates import CallerCertificates
from sealwright.server.rpc.crowding import Crowding
from sealwright.server.rpc.interceptors import Boundary
from sealwright.server.rpc.receiving import MAX_MESSAGE
from sealwright.server.rpc.unix_front import UnixFront, UnixPeers
from sealwright.server.settings import ServerSettings
from sealwright.server.shedding import Shedding
from sealwright.server.socket_file import SocketFile
from sealwright.server.tls import TlsFiles, grpc_credentials

SIGNING: Final = "sealwright.v1.SigningService"
SERVICES: Final = ("", SIGNING, "sealwright.v1.JwksService", "sealwright.v1.KeyService")

_DRAIN_PAUSE: Final = 0.2
"""Seconds for which the listener refuses new calls before it closes; see `Boundary`."""

_HANDSHAKE_MS: Final = 10_000
"""Longest time until a connection has completed its TLS handshake and sent its HTTP/2 settings."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_concurrent_streams", 128),
    # Calls that wait in gRPC before this service sees them. Beyond the first number gRPC ends some of them at once, beyond the
    # second all: at twice the capacity, `Admission` can become too slow to refuse the rest itself.
    ("grpc.server.max_pending_requests", 500),
    ("grpc.server.max_pending_requests_hard_limit", 1_000),
    ("grpc.http2.bdp_probe", 0),  # it would raise the bytes that are held of a request before anybody asks for it
    ("grpc.server_handshake_timeout_ms", _HANDSHAKE_MS),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients connect again without losing a call, and show their certificate again. Calls take at most a minute.
    ("grpc.max_connection_age_ms", 3_600_000),
    ("grpc.max_connection_age_grace_ms", 90_000),
)

_BUSY: Final = frozenset(
    {
        f"/{SIGNING}/SignJwt",
        f"/{SIGNING}/BatchSignJwt",
        f"/{SIGNING}/VerifyJwt",
        "/sealwright.v1.JwksService/GetJwks",
        f"/{health_names.SERVICE_NAME}/Check",
    }
)
"""Methods that thousands may call at once. Each has a queue of its own in gRPC. Administration shares another queue, so it does not
wait behind them. Not every method has a queue, because grpc.aio starts a new wait for each queue whenever a call arrives: with 13
queues a token took 3 % more CPU."""

AddServices = Callable[[Boundary], None]


class _Registrar:
    """Adds servicers to a server. It registers only the methods that many call."""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        """See grpc.aio.Server."""
        chosen = {name: h for name, h in method_handlers.items() if f"/{service_name}/{name}" in _BUSY}
        self._server.add_registered_method_handlers(service_name, chosen)


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
        unix: UnixPeers,
        share_port: bool,
    ) -> None:
        self._limits = limits
        self._callers = callers
        self._jobs: list[asyncio.Task[None]] = []
        self.address = settings.grpc
        self._settings = settings
        self._boundary = boundary
        self._files: TlsFiles | None = None
        self._socket_file: SocketFile | None = None
        self._front: UnixFront | None = None
        if isinstance(settings.grpc, UnixSocket):
            self._socket_file = SocketFile(settings.grpc.path)
            self._front = UnixFront(settings.grpc.path, unix, limits, Shedding("grpc"))
        # gRPC shares ports by default. A second service would then silently receive half of the calls.
        own = (("grpc.so_reuseport", int(share_port)), ("grpc.max_allowed_incoming_connections", limits.total))
        options = (*_OPTIONS, *own)
        add_services(boundary)
        self._server = grpc.aio.server(options=options)
        registrar = _Registrar(self._server)
        registrar.add_generic_rpc_handlers((boundary,))
        for path, handler in boundary.handlers.items():
            _, service, name = path.split("/")
            registrar.add_registered_method_handlers(service, {name: handler})
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, cast("grpc.aio.Server", registrar))
        if settings.reflection:
            reflection.enable_server_reflection(
                (*SERVICES[1:], health_names.SERVICE_NAME, reflection.SERVICE_NAME), self._server
            )

    async def start(self) -> None:
        """Bind and serve.

        Raises:
            ConfigurationError: The address cannot be bound, or the TLS files cannot be used.
        """
        await self.set_serving(signing=False)
        try:
            if self._socket_file is not None:
                await self._socket_file.take()
            self.address = self._bind()
            await self._server.start()
            if self._front is not None:
                self._front.start()
        except (RuntimeError, OSError) as e:
            await self._server.stop(None)
            if self._front is not None:
                await self._front.close()
            if self._socket_file is not None:
                self._socket_file.unlock()
            raise CannotListenError("grpc", self.address, e) from e
        if isinstance(self.address, Address):
            crowding = Crowding(self.address.port, self._limits, Shedding("grpc"))
            self._jobs.append(asyncio.create_task(crowding.run()))
        self._jobs.append(asyncio.create_task(self._boundary.receiving.run()))
        self._jobs.append(asyncio.create_task(self._boundary.admission.run()))
        self._jobs.append(asyncio.create_task(self._boundary.run()))

    def _bind(self) -> Address | UnixSocket:
        address, settings = self._settings.grpc, self._settings
        if isinstance(address, UnixSocket):
            assert self._front is not None  # noqa: S101 - for mypy
            self._server.add_insecure_port(self._front.prepare())
            return address
        if settings.insecure_local:
            port = self._server.add_insecure_port(str(address))
        elif settings.tls is not None:
            self._files = TlsFiles(settings.tls, "gRPC", for_grpc=True)
            self._callers.use(self._files)
            port = self._server.add_secure_port(str(address), grpc_credentials(self._files))
        else:
            raise ConfigurationError(["server.tls: must be given"])
        return Address(address.host, port)

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
        await self._health.enter_graceful_shutdown()
        self._boundary.draining = True
        self._boundary.receiving.drain()
        await asyncio.sleep(_DRAIN_PAUSE)
        if self._front is not None:
            self._front.stop()
        await self._server.stop(self._settings.drain_seconds)
        await self._boundary.idle()
        if self._front is not None:
            await self._front.close()
        self._boundary.report()
        for job in self._jobs:
            job.cancel()
        if self._socket_file is not None:
            self._socket_file.unlock()
