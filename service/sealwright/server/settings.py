"""Settings of the listeners."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import AfterValidator, Field, model_validator

from sealwright.settings import Settings

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):(?P<port>\d{1,5})")
_MAX_PORT: Final = 65535
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
        if not text.removeprefix(UNIX).startswith("/"):
            raise ValueError("must be unix: and an absolute path, or host:port")
        return text
    return _tcp(text)


class TlsSettings(Settings):
    """Files of the TLS listeners, PEM. They are read again when they change.

    Attributes:
        certificate: Certificate chain of the service.
        private_key: Its key.
        client_ca: Certificates that callers' certificates must chain to.
    """

    certificate: str = Field(min_length=1)
    private_key: str = Field(min_length=1)
    client_ca: str = Field(min_length=1)


class ServerSettings(Settings):
    """Where the service listens.

    Attributes:
        grpc: For callers: mutual TLS, or `unix:/path`, whose file mode is the permission.
        http: For verifiers: JWK Sets and health.
        admin: For operators; loopback only.
        workers: Processes that share the ports.
        insecure_local: Plaintext on loopback; every caller is `local`.
        http_plaintext: The public listener speaks plaintext, behind an ingress that speaks TLS.
        tls: Certificates and keys.
        drain_seconds: Longest time that calls under way have to end in after SIGTERM.
    """

    grpc: Annotated[str, AfterValidator(_tcp_or_unix)] = "127.0.0.1:8443"
    http: Annotated[str, AfterValidator(_tcp)] = "127.0.0.1:8080"
    admin: Annotated[str, AfterValidator(_tcp)] = "127.0.0.1:9090"
    workers: int = Field(default=1, ge=1, le=256)
    insecure_local: bool = False
    http_plaintext: bool = False
    tls: TlsSettings | None = None
    drain_seconds: int = Field(default=30, ge=1, le=600)

    @property
    def grpc_is_unix(self) -> bool:
        """Whether gRPC listens on a Unix socket."""
        return self.grpc.startswith(UNIX)

    @property
    def http_is_plaintext(self) -> bool:
        """Whether the public listener speaks plaintext."""
        return self.insecure_local or self.http_plaintext

    @model_validator(mode="after")
    def _plaintext_stays_here(self) -> ServerSettings:
        problems = []
        if not parse_address(self.admin).loopback:
            problems.append("admin must be a loopback address")
        if self.insecure_local:
            if not self.grpc_is_unix and not parse_address(self.grpc).loopback:
                problems.append("insecure_local needs a loopback address for grpc")
            if not self.http_plaintext and not parse_address(self.http).loopback:
                problems.append("insecure_local needs a loopback address for http, or http_plaintext = true")
        elif self.tls is None and not (self.grpc_is_unix and self.http_plaintext):
            problems.append("server.tls is missing (or insecure_local = true, on loopback)")
        if self.grpc_is_unix and self.workers > 1:
            problems.append("a Unix socket takes one worker")
        if problems:
            raise ValueError("; ".join(problems))
        return self
