"""The gRPC listener."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health as health_names
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health
from grpc_reflection.v1alpha import reflection

from sealwright.errors import ConfigurationError
from sealwright.server.rpc.interceptors import Boundary
from sealwright.server.settings import UNIX, ServerSettings, TlsSettings, parse_address

log = logging.getLogger(__name__)

SIGNING: Final = "sealwright.v1.SigningService"
SERVICES: Final = ("", SIGNING, "sealwright.v1.JwksService", "sealwright.v1.KeyService")

_MAX_MESSAGE: Final = 2 * 1024 * 1024 + 64 * 1024
_SOCKET_MODE: Final = 0o660
_DRAIN_PAUSE: Final = 0.2
"""Seconds in which new calls are refused before the listener closes; see `Boundary`."""

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_concurrent_streams", 1000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
)

AddServices = Callable[[grpc.aio.Server], None]


class GrpcListener:
    """Serves RPCs until it is drained."""

    def __init__(self, settings: ServerSettings, add_services: AddServices, *, share_port: bool) -> None:
        self._settings = settings
        self._boundary = Boundary()
        # gRPC shares ports unless told otherwise: a second service would take half of the calls without a word.
        options = (*_OPTIONS, ("grpc.so_reuseport", int(share_port)))
        self._server = grpc.aio.server(interceptors=[self._boundary], options=options)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        add_services(self._server)
        if settings.reflection:
            reflection.enable_server_reflection(
                (*SERVICES[1:], health_names.SERVICE_NAME, reflection.SERVICE_NAME), self._server
            )
        self.address = ""

    async def start(self) -> None:
        """Bind and serve. `address` then says where.

        Raises:
            ConfigurationError: The address cannot be bound, or the TLS files cannot be used.
        """
        target = self._settings.grpc
        await self.set_serving(signing=False)
        try:
            if self._settings.grpc_is_unix:
                self._server.add_insecure_port(target)
                self.address = target
            else:
                address = parse_address(target)
                port = self._add_port(target)
                self.address = str(type(address)(address.host, port))
        except (RuntimeError, OSError) as e:
            raise ConfigurationError([f"server.grpc: cannot listen there: {type(e).__name__}"]) from e
        await self._server.start()
        if self._settings.grpc_is_unix:
            os.chmod(target.removeprefix(UNIX), _SOCKET_MODE)  # noqa: PTH101 - a Path would block no less

    def _add_port(self, target: str) -> int:
        if self._settings.insecure_local:
            return self._server.add_insecure_port(target)
        if self._settings.tls is None:
            raise ConfigurationError(["server.tls: missing"])
        return self._server.add_secure_port(target, _credentials(self._settings.tls))

    async def set_serving(self, *, signing: bool) -> None:
        """Say over grpc.health.v1 whether tokens can be signed; the other services always serve."""
        for name in SERVICES:
            up = signing or name not in {"", SIGNING}
            status = health_pb2.HealthCheckResponse.SERVING if up else health_pb2.HealthCheckResponse.NOT_SERVING
            await self._health.set(name, status)

    async def drain(self) -> None:
        """Refuse new calls, let those under way end, and close."""
        await self._health.enter_graceful_shutdown()
        self._boundary.draining = True
        await asyncio.sleep(_DRAIN_PAUSE)
        await self._server.stop(self._settings.drain_seconds)
        await self._boundary.idle()


def _credentials(tls: TlsSettings) -> grpc.ServerCredentials:
    """Mutual TLS from files, read again when one of them changes, so that certificates can be renewed without a restart.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    try:
        stamp, configuration = _configuration(tls)
    except OSError as e:
        raise ConfigurationError([f"server.tls: {e.strerror}: {e.filename}"]) from e
    state: dict[str, Any] = {"stamp": stamp}

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        try:
            if _stamp(tls) == state["stamp"]:
                return None
            state["stamp"], fresh = _configuration(tls)
        except OSError:
            log.exception("the TLS files cannot be read; the old certificate stays")
            return None
        log.info("the TLS files have changed and were read again")
        return fresh

    return grpc.dynamic_ssl_server_credentials(
        configuration,
        renewed,  # type: ignore[arg-type] # None, says gRPC's documentation, means: unchanged
        require_client_authentication=True,
    )


def _stamp(tls: TlsSettings) -> tuple[tuple[int, int], ...]:
    files = (Path(p).stat() for p in (tls.certificate, tls.private_key, tls.client_ca))
    return tuple((f.st_mtime_ns, f.st_ino) for f in files)


def _configuration(tls: TlsSettings) -> tuple[tuple[tuple[int, int], ...], grpc.ServerCertificateConfiguration]:
    stamp = _stamp(tls)
    chain, key, roots = (Path(p).read_bytes() for p in (tls.certificate, tls.private_key, tls.client_ca))
    return stamp, grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)
