"""Addresses of listeners, and the error of a listener that cannot listen."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import PlainValidator

from sealwright.errors import ConfigurationError
from sealwright.settings import check_path

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\[\]:/\s]+):(?P<port>[0-9]{1,5})")
_MAX_PORT: Final = 65535
_MAX_SOCKET_PATH: Final = 107
"""`sun_path` has 108 bytes (unix(7)), and the last one is 0."""
_UNIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address.

    Attributes:
        host: Name or IP address. IPv6 has no brackets here.
        port: TCP port; 0: any free port.
    """

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def every_address(self) -> bool:
        """Whether it is `[::]`: every address of this machine, of IPv4 and IPv6."""
        try:
            return ipaddress.ip_address(self.host) == ipaddress.IPv6Address(0)
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """The address of a Unix socket.

    Attributes:
        path: Absolute path of the socket.
    """

    path: str

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address: always."""
        return True

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


def parse_address(value: Any) -> Address:
    """Parse `host:port` or `[ipv6]:port`. An `Address` is returned as it is.

    Raises:
        ValueError: The value is anything else.
    """
    if isinstance(value, Address):
        return value
    match = _ADDRESS.fullmatch(_text(value))
    if match is None or int(match["port"]) > _MAX_PORT:
        raise ValueError("must be host:port")
    return Address(match["host"].strip("[]"), int(match["port"]))


def parse_address_or_socket(value: Any) -> Address | UnixSocket:
    """Parse `host:port`, `[ipv6]:port` or `unix:/path`. An `Address` or a `UnixSocket` is returned as it is.

    Raises:
        ValueError: The value is anything else, or the path is longer than the operating system allows.
    """
    if isinstance(value, UnixSocket):
        return value
    if isinstance(value, Address) or not _text(value).startswith(_UNIX):
        return parse_address(value)
    path = check_path(value.removeprefix(_UNIX))
    if not path.startswith("/"):
        raise ValueError("must be unix: and an absolute path, or host:port")
    if len(path.encode()) > _MAX_SOCKET_PATH:
        raise ValueError(f"the path of a Unix socket must have at most {_MAX_SOCKET_PATH} bytes")
    return UnixSocket(path)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic reports a ValueError as a problem
    return value


TcpAddress = Annotated[Address, PlainValidator(parse_address)]
"""A setting `host:port`."""

AnyAddress = Annotated[Address | UnixSocket, PlainValidator(parse_address_or_socket)]
"""A setting `host:port` or `unix:/path`."""


class CannotListenError(ConfigurationError):
    """A listener cannot listen on its address."""

    def __init__(self, listener: str, address: Address | UnixSocket, cause: OSError) -> None:
        """Make the message.

        Args:
            listener: Name of its setting: `grpc`, `http` or `admin`.
            address: The address.
            cause: What the operating system reported.
        """
        super().__init__([f"server.{listener}: cannot listen on {address}: {_reason(cause)}"])


def _reason(cause: OSError) -> str:
    if cause.errno:
        # asyncio repeats the address in its text. The codes of getaddrinfo are negative, and strerror(3) does not know them.
        return os.strerror(cause.errno) if cause.errno > 0 else str(cause.strerror)
    return "it is in use, or is not an address of this machine"
