"""Connections of commands to a service, and errors of their calls."""

from __future__ import annotations

import functools
import ssl
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click
import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2  # type: ignore[import-untyped]
from grpc_status import rpc_status
from rich.console import Console

from sealwright.cli.diagnosis import explain, is_local, tls_context
from sealwright.cli.inputs import InputError, read_bytes
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

    @property
    def uses_tls(self) -> bool:
        """Whether the connection uses TLS."""
        return not self.plaintext and not self.address.startswith("unix:")

    def tls(self) -> ssl.SSLContext | None:
        """Return the TLS settings; None: plaintext."""
        return tls_context(self.ca, self.certificate, self.private_key) if self.uses_tls else None


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
    click.option(
        "--plaintext",
        is_flag=True,
        envvar="SEALWRIGHT_PLAINTEXT",
        show_envvar=True,
        help="Connect without TLS. Only to a loopback address.",
    ),
    click.option(
        "--ca",
        type=_FILE,
        envvar="SEALWRIGHT_CA",
        show_envvar=True,
        help="File with the CA certificates to trust. Default: those of the system.",
    ),
    click.option(
        "--certificate",
        type=_FILE,
        envvar="SEALWRIGHT_CERTIFICATE",
        show_envvar=True,
        help="File with your certificate chain.",
    ),
    click.option(
        "--private-key",
        type=_FILE,
        envvar="SEALWRIGHT_PRIVATE_KEY",
        show_envvar=True,
        help="File with the private key of your certificate.",
    ),
    click.option("--timeout", type=float, default=10.0, show_default=True, help="Longest time of a call, in seconds."),
)


def connection_options(function: F) -> F:
    """Add the options of a connection to a command. The command receives them as one `target`."""

    @functools.wraps(function)
    def with_target(*args: Any, **kwargs: Any) -> Any:
        target = Target(**{f.name: kwargs.pop(f.name) for f in fields(Target)})
        return function(*args, target=target, **kwargs)

    decorated: Any = with_target
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated  # type: ignore[no-any-return]


@contextmanager
def channel(target: Target) -> Iterator[grpc.Channel]:
    """Open a channel, and close it at the end.

    Raises:
        InputError: The options of the connection, or their files, cannot be used.
    """
    try:
        local = is_local(target.address)
    except ValueError as e:
        raise InputError(f"--address: {e}") from e
    if target.plaintext and not local:
        raise InputError("--plaintext: only to a loopback address or a Unix socket; use TLS for other hosts")
    if (target.certificate is None) != (target.private_key is None):
        raise InputError("--certificate, --private-key: give both or neither")
    if target.uses_tls:
        paths = {"--ca": target.ca, "--private-key": target.private_key, "--certificate": target.certificate}
        files = [None if path is None else read_bytes(path, name) for name, path in paths.items()]
        try:
            target.tls()
        except ValueError as e:
            raise InputError(str(e)) from e
        opened = grpc.secure_channel(target.address, grpc.ssl_channel_credentials(*files))
    else:
        opened = grpc.insecure_channel(target.address, [("grpc.enable_http_proxy", 0)])
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
                _fail_with(error, target, output)
    except grpc.RpcError as error:
        _fail_with(error, target, output)
    except KeyboardInterrupt:
        future.cancel()
        sys.exit(130)


def _fail_with(error: grpc.RpcError, target: Target, output: str) -> NoReturn:
    found = describe(error)
    if not found.from_service and found.code in {"UNAVAILABLE", "DEADLINE_EXCEEDED"}:
        text = "the connection ended before the answer"
        if found.code == "DEADLINE_EXCEEDED":
            text = f"the service did not answer within {target.timeout:g} s"
        why = explain(target.address, target.tls(), has_certificate=target.certificate is not None)
        found.reason, found.lines = why[0] if why else found.code, [why[1] if why else text]
    head = found.code if found.reason == found.code else f"{found.code} ({found.reason})"
    problems = [f"{head}: {found.lines[0]}", *found.lines[1:]]
    about = {"code": found.code, "reason": found.reason, "metadata": found.metadata, "request_id": found.request_id}
    if found.request_id and output == "text":
        problems.append(f"request id: {found.request_id}")
    fail(output, problems, about)


@dataclass(slots=True)
class Failure:
    """A failed call.

    Attributes:
        code: The status code of gRPC.
        reason: Name for programs, of docs/errors.md or docs/commands.md.
        lines: Its message, and each violation and metadatum that the message does not contain.
        metadata: Details for programs.
        request_id: The id under which the service logs the call; empty: the service did not answer.
        from_service: Whether Sealwright answered, and not a proxy or gRPC itself.
    """

    code: str
    reason: str
    lines: list[str]
    metadata: dict[str, str] = field(default_factory=dict)
    request_id: str = ""
    from_service: bool = False


def describe(error: Any) -> Failure:
    """Return what a failed call says."""
    code = error.code().name
    found = Failure(code, code, [error.details() or "no further details"])
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # a proxy has replaced the code or the details
        status = None
    more: list[str] = []
    for detail in status.details if status is not None else ():
        info, bad, request = (
            error_details_pb2.ErrorInfo(),
            error_details_pb2.BadRequest(),
            error_details_pb2.RequestInfo(),
        )
        if detail.Unpack(info):
            found.reason, found.metadata, found.from_service = info.reason, dict(info.metadata), True
            more += [f"{name}: {value}" for name, value in sorted(info.metadata.items()) if value not in found.lines[0]]
        elif detail.Unpack(request):
            found.request_id = request.request_id
        elif detail.Unpack(bad):
            more += [f"{v.field}: {v.description}" if v.field else v.description for v in bad.field_violations]
    found.lines += [line for line in dict.fromkeys(more) if line not in found.lines[0]]
    return found
