"""Settings of the listeners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field, ValidationInfo, field_validator

from sealwright.server.addresses import Address, AnyAddress, TcpAddress, UnixSocket
from sealwright.settings import FilePath, Settings


class TlsSettings(Settings):
    """Files of the TLS listeners, in PEM. The service reads them again when they change.

    Attributes:
        certificate: Certificate chain of the service.
        private_key: Private key of the first certificate.
        client_ca: Certificates that callers' certificates must chain to.
    """

    certificate: FilePath
    private_key: FilePath
    client_ca: FilePath


class ServerSettings(Settings):
    """Where the service listens.

    Attributes:
        insecure_local: Whether gRPC and HTTP are plaintext, on loopback. Every caller is then `local`.
        http_plaintext: Whether the public listener is plaintext, behind an ingress that terminates TLS.
        grpc: Address for callers: mutual TLS, or `unix:/path`, where the mode of the socket file grants access.
        http: Address for verifiers: JWK Sets and health.
        admin: Address for operators, on loopback: metrics and status.
        workers: Number of processes that share the ports.
        tls: Certificates and keys; None: no listener uses TLS.
        reflection: Whether gRPC clients can fetch the description of the API (gRPC Server Reflection).
        max_connections: Most connections that the gRPC and the public listener may each have open, in each worker.
        max_connections_per_address: Most of them from one address.
        metrics_path: Directory in which several workers keep their metrics; None: one beside the store.
        drain_seconds: Longest time in seconds after SIGTERM that the service waits for running calls to end.
    """

    insecure_local: bool = False
    http_plaintext: bool = False
    grpc: AnyAddress = Address("127.0.0.1", 8443)
    http: TcpAddress = Address("127.0.0.1", 8080)
    admin: TcpAddress = Address("127.0.0.1", 9090)
    workers: int = Field(default=1, ge=1, le=256)
    tls: TlsSettings | None = None
    reflection: bool = False
    max_connections: int = Field(default=1000, ge=16, le=16_000)
    max_connections_per_address: int = Field(default=250, ge=4, le=16_000)
    metrics_path: FilePath | None = None
    drain_seconds: int = Field(default=30, ge=1, le=600)

    @property
    def grpc_is_unix(self) -> bool:
        """Whether gRPC listens on a Unix socket."""
        return isinstance(self.grpc, UnixSocket)

    @property
    def http_is_plaintext(self) -> bool:
        """Whether the public listener serves plaintext."""
        return self.insecure_local or self.http_plaintext

    @field_validator("grpc")
    @classmethod
    def _local_callers_are_here(cls, value: Address | UnixSocket, info: ValidationInfo) -> Address | UnixSocket:
        if info.data.get("insecure_local") and not value.loopback:
            raise ValueError("must be a loopback address, because insecure_local is set")
        return value

    @field_validator("http")
    @classmethod
    def _plaintext_is_meant(cls, value: Address, info: ValidationInfo) -> Address:
        meant = info.data.get("http_plaintext", True) or not info.data.get("insecure_local")
        if not meant and not value.loopback:
            raise ValueError("must be a loopback address, because insecure_local is set (or set http_plaintext = true)")
        return _unshared(value, "grpc", info.data)

    @field_validator("admin")
    @classmethod
    def _operators_are_here(cls, value: Address, info: ValidationInfo) -> Address:
        if not value.loopback:
            raise ValueError("must be a loopback address")
        return _unshared(_unshared(value, "grpc", info.data), "http", info.data)

    @field_validator("workers")
    @classmethod
    def _ports_can_be_shared(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and isinstance(info.data.get("grpc"), UnixSocket):
            raise ValueError("must be 1, because only one worker can listen on a Unix socket")
        return value

    @field_validator("tls")
    @classmethod
    def _no_plaintext_by_accident(cls, value: TlsSettings | None, info: ValidationInfo) -> TlsSettings | None:
        known = {"insecure_local", "http_plaintext", "grpc"} <= info.data.keys()
        if known and value is None and not info.data["insecure_local"]:
            local = isinstance(info.data["grpc"], UnixSocket)
            if not (local and info.data["http_plaintext"]):
                raise ValueError("must be given (or insecure_local = true, on loopback)")
        if value is not None and info.data.get("insecure_local"):
            raise ValueError("has no effect, because insecure_local is set; remove one of them")
        return value


def _unshared(address: Address, other: str, values: Mapping[str, Any]) -> Address:
    """Return the address if the other listener does not have the same one."""
    if address.port and values.get(other) == address:
        raise ValueError(f"must differ from {other}")
    return address
