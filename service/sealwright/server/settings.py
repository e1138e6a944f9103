"""Settings of the listeners."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from sealwright.settings import FilePath, Settings, check_path

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):(?P<port>[0-9]{1,5})")
_MAX_PORT: Final = 65535
_MAX_SOCKET_PATH: Final = 107
"""`sun_path` has 108 bytes (unix(7)), the last of them 0."""
UNIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address.

    Attributes:
        host: Name or IP address, IPv6 without brackets.
        port: 0: any free one.
    """

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Parse `host:port` or `[ipv6]:port`.

    Raises:
        ValueError: It is neither.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError("must be host:port")
    return Address(match["host"].strip("[]"), int(match["port"]))


def _tcp(text: str) -> str:
    parse_address(text)
    return text


def _tcp_or_unix(text: str) -> str:
    if text.startswith(UNIX):
        path = text.removeprefix(UNIX)
        if not check_path(path).startswith("/"):
            raise ValueError("must be unix: and an absolute path, or host:port")
        if len(path.encode()) > _MAX_SOCKET_PATH:
            raise ValueError(f"a socket's path may have {_MAX_SOCKET_PATH} bytes at the most")
        return text
    return _tcp(text)


class TlsSettings(Settings):
    """Files of the TLS listeners, PEM. They are read again when they change.

    Attributes:
        certificate: Certificate chain of the service.
        private_key: Its key.
        client_ca: Certificates that callers' certificates must chain to.
    """

    certificate: FilePath
    private_key: FilePath
    client_ca: FilePath


class ServerSettings(Settings):
    """Where the service listens.

    Attributes:
        insecure_local: Plaintext on loopback; every caller is `local`.
        http_plaintext: The public listener speaks plaintext, behind an ingress that speaks TLS.
        grpc: For callers: mutual TLS, or `unix:/path`, whose file mode is the permission.
        http: For verifiers: JWK Sets and health.
        admin: For operators; loopback only.
        workers: Processes that share the ports.
        tls: Certificates and keys.
        reflection: Whether gRPC clients may ask for the API's description (gRPC Server Reflection).
        drain_seconds: Longest time that calls under way have to end in after SIGTERM.
    """

    insecure_local: bool = False
    http_plaintext: bool = False
    grpc: Annotated[str, AfterValidator(_tcp_or_unix)] = "127.0.0.1:8443"
    http: Annotated[str, AfterValidator(_tcp)] = "127.0.0.1:8080"
    admin: Annotated[str, AfterValidator(_tcp)] = "127.0.0.1:9090"
    workers: int = Field(default=1, ge=1, le=256)
    tls: TlsSettings | None = None
    reflection: bool = False
    drain_seconds: int = Field(default=30, ge=1, le=600)

    @property
    def grpc_is_unix(self) -> bool:
        """Whether gRPC listens on a Unix socket."""
        return self.grpc.startswith(UNIX)

    @property
    def http_is_plaintext(self) -> bool:
        """Whether the public listener speaks plaintext."""
        return self.insecure_local or self.http_plaintext

    @field_validator("grpc")
    @classmethod
    def _local_callers_are_here(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("insecure_local") and not value.startswith(UNIX) and not parse_address(value).loopback:
            raise ValueError("must be a loopback address, since insecure_local is set")
        return value

    @field_validator("http")
    @classmethod
    def _plaintext_is_meant(cls, value: str, info: ValidationInfo) -> str:
        meant = info.data.get("http_plaintext", True) or not info.data.get("insecure_local")
        if not meant and not parse_address(value).loopback:
            raise ValueError("must be a loopback address, since insecure_local is set, or http_plaintext = true")
        return _unshared(value, "grpc", info.data)

    @field_validator("admin")
    @classmethod
    def _operators_are_here(cls, value: str, info: ValidationInfo) -> str:
        if not parse_address(value).loopback:
            raise ValueError("must be a loopback address")
        return _unshared(_unshared(value, "grpc", info.data), "http", info.data)

    @field_validator("workers")
    @classmethod
    def _ports_can_be_shared(cls, value: int, info: ValidationInfo) -> int:
        if value > 1 and info.data.get("grpc", "").startswith(UNIX):
            raise ValueError("must be 1, since a Unix socket takes one worker")
        return value

    @field_validator("tls")
    @classmethod
    def _no_plaintext_by_accident(cls, value: TlsSettings | None, info: ValidationInfo) -> TlsSettings | None:
        known = {"insecure_local", "http_plaintext", "grpc"} <= info.data.keys()
        if known and value is None and not info.data["insecure_local"]:
            local = info.data["grpc"].startswith(UNIX)
            if not (local and info.data["http_plaintext"]):
                raise ValueError("must be given (or insecure_local = true, on loopback)")
        if value is not None and info.data.get("insecure_local"):
            raise ValueError("would not be used, since insecure_local is set; take one of them out")
        return value


def _unshared(text: str, other: str, values: Mapping[str, Any]) -> str:
    """Return the address if the other listener does not have the same."""
    address = parse_address(text)
    taken = values.get(other, UNIX)
    if address.port and not taken.startswith(UNIX) and parse_address(taken) == address:
        raise ValueError(f"must differ from {other}")
    return text
