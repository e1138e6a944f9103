"""How commands reach a service, and what they make of its answers."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import grpc
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from rich.console import Console

from sealwright.cli.output import fail

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_DETAILS: Final = "grpc-status-details-bin"
_QUIET_SECONDS: Final = 1.0
"""What takes longer says that it is under way."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a service is, and how to speak to it.

    Attributes:
        address: `host:port` or `unix:/path`.
        plaintext: Without TLS.
        ca: File with the certificates that the service's must chain to; None: the system's.
        certificate: File with the caller's certificate chain.
        private_key: File with its key.
        timeout: Seconds that a call may take.
    """

    address: str
    plaintext: bool
    ca: Path | None
    certificate: Path | None
    private_key: Path | None
    timeout: float


def connection_options(function: F) -> F:
    """Add the options of a connection; the command is given a `target`."""
    file = click.Path(path_type=Path, exists=True, dir_okay=False)
    options = [
        click.option(
            "--address",
            envvar="SEALWRIGHT_ADDRESS",
            default="127.0.0.1:8443",
            show_default=True,
            show_envvar=True,
            help="The service, as host:port or unix:/path.",
        ),
        click.option(
            "--plaintext", is_flag=True, envvar="SEALWRIGHT_PLAINTEXT", help="Speak without TLS, on loopback."
        ),
        click.option("--ca", type=file, envvar="SEALWRIGHT_CA", help="Certificates that the service's must chain to."),
        click.option("--certificate", type=file, envvar="SEALWRIGHT_CERTIFICATE", help="Your certificate chain."),
        click.option("--private-key", type=file, envvar="SEALWRIGHT_PRIVATE_KEY", help="Its private key."),
        click.option("--timeout", type=float, default=10.0, show_default=True, help="Seconds that a call may take."),
    ]

    def with_target(
        *args: Any,
        address: str,
        plaintext: bool,
        ca: Path | None,
        certificate: Path | None,
        private_key: Path | None,
        timeout: float,
        **kwargs: Any,
    ) -> Any:
        target = Target(address, plaintext, ca, certificate, private_key, timeout)
        return function(*args, target=target, **kwargs)

    with_target.__name__ = function.__name__
    with_target.__doc__ = function.__doc__
    with_target.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    decorated: Any = with_target
    for option in reversed(options):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


@contextmanager
def channel(target: Target) -> Iterator[grpc.Channel]:
    """Open a channel."""
    if target.plaintext or target.address.startswith("unix:"):
        opened = grpc.insecure_channel(target.address)
    else:
        files = [None if p is None else p.read_bytes() for p in (target.ca, target.private_key, target.certificate)]
        opened = grpc.secure_channel(target.address, grpc.ssl_channel_credentials(*files))
    with opened:
        yield opened


def ask(method: Any, request: Any, target: Target, output: str) -> Any:
    """Make a call and return its answer; show that it is under way when it takes long, and end the command when it fails.

    Args:
        method: Of a stub.
        request: Its request.
        target: For the timeout.
        output: For the error: `text` or `json`.
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
    """Return the reason of a failed call, its message, and every violation."""
    reason = error.code().name
    lines = [error.details() or "no more is known"]
    trailers = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailers.get(_DETAILS, b""))
    for detail in status.details:
        info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        if detail.Unpack(info):
            reason = info.reason
            lines += [f"{name}: {value}" for name, value in sorted(info.metadata.items())]
        elif detail.Unpack(bad):
            lines += [f"{v.field}: {v.description}" if v.field else v.description for v in bad.field_violations]
    return reason, lines
