"""Connections of commands to a service, and errors of their calls."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from rich.console import Console

from sealwright.cli.inputs import read_bytes
from sealwright.cli.output import fail

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_QUIET_SECONDS: Final = 1.0
"""A command that waits longer shows that it is waiting."""


@dataclass(frozen=True, slots=True)
class Target:
    """The address of a service, and how to connect to it. Each attribute is an option of the command line.

    Attributes:
        address: `host:port` or `unix:/path`.
        plaintext: Whether to connect without TLS.
        ca: File with the CA certificates to which the service's must chain; None: those of the system.
        certificate: File with the caller's certificate chain; None: no client certificate.
        private_key: File with the private key of the certificate.
        timeout: Longest time of a call, in seconds.
    """

    address: str
    plaintext: bool
    ca: Path | None
    certificate: Path | None
    private_key: Path | None
    timeout: float


_FILE: Final = click.Path(path_type=Path)
_OPTIONS: Final = (
    click.option(
        "--address",
        envvar="SEALWRIGHT_ADDRESS",
        default="127.0.0.1:8443",
        show_default=True,
        show_envvar=True,
        help="Address of the service: host:port or unix:/path.",
    ),
    click.option("--plaintext", is_flag=True, envvar="SEALWRIGHT_PLAINTEXT", help="Connect without TLS, on loopback."),
    click.option(
        "--ca",
        type=_FILE,
        envvar="SEALWRIGHT_CA",
        help="File with the CA certificates to trust. Default: those of the system.",
    ),
    click.option(
        "--certificate", type=_FILE, envvar="SEALWRIGHT_CERTIFICATE", help="File with your certificate chain."
    ),
    click.option(
        "--private-key",
        type=_FILE,
        envvar="SEALWRIGHT_PRIVATE_KEY",
        help="File with the private key of your certificate.",
    ),
    click.option("--timeout", type=float, default=10.0, show_default=True, help="Longest time of a call, in seconds."),
)


def connection_options(function: F) -> F:
    """Add the options of a connection to a command. The command receives them as one `target`."""

    @functools.wraps(function)
    def with_target(*args: Any, **kwargs: Any) -> Any:
        target = Target(**{field.name: kwargs.pop(field.name) for field in fields(Target)})
        return function(*args, target=target, **kwargs)

    decorated: Any = with_target
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


@contextmanager
def channel(target: Target) -> Iterator[grpc.Channel]:
    """Open a channel, and close it at the end."""
    if target.plaintext or target.address.startswith("unix:"):
        opened = grpc.insecure_channel(target.address)
    else:
        paths = {"--ca": target.ca, "--private-key": target.private_key, "--certificate": target.certificate}
        files = [None if path is None else read_bytes(path, name) for name, path in paths.items()]
        opened = grpc.secure_channel(target.address, grpc.ssl_channel_credentials(*files))
    with opened:
        yield opened


def ask(method: Any, request: Any, target: Target, output: str) -> Any:
    """Make a call and return its response. Show that the command is waiting if the call takes long; end it if the call fails.

    Args:
        method: A method of a stub.
        request: Its request.
        target: Has the timeout.
        output: Format of the error: `text` or `json`.
    """
    future = method.future(request, timeout=target.timeout)
    try:
        return future.result(timeout=min(_QUIET_SECONDS, target.timeout))
    except grpc.FutureTimeoutError:
        console = Console(stderr=True)
        if not console.is_terminal:
            console.print("waiting for the service …")
        with console.status("waiting for the service …"):
            try:
                return future.result()
            except grpc.RpcError as error:
                _fail_with(error, output)
    except grpc.RpcError as error:
        _fail_with(error, output)
    except KeyboardInterrupt:
        future.cancel()
        sys.exit(130)


def _fail_with(error: grpc.RpcError, output: str) -> NoReturn:
    reason, lines = describe(error)
    fail(output, [f"{reason}: {lines[0]}", *lines[1:]])


def describe(error: Any) -> tuple[str, list[str]]:
    """Return the reason of a failed call, and lines: its message, its metadata and every violation."""
    reason = error.code().name
    lines = [error.details() or "no further details"]
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # a proxy has replaced the code or the details
        status = None
    for detail in status.details if status is not None else ():
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason = info.reason
            lines += [f"{name}: {value}" for name, value in sorted(info.metadata.items())]
        elif detail.Unpack(bad):
            lines += [f"{v.field}: {v.description}" if v.field else v.description for v in bad.field_violations]
    return reason, lines
