"""Finds out why a service cannot be reached. gRPC's own texts are those of its C++ library."""

from __future__ import annotations

import ipaddress
import socket
import ssl
from pathlib import Path
from typing import Final

_SECONDS: Final = 2.0
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""How an HTTP/2 client begins: the preface, and an empty SETTINGS frame (RFC 9113 §3.4)."""
_SETTINGS: Final = 4
_UNIX: Final = "unix:"
_MAX_PORT: Final = 65535


def host_and_port(address: str) -> tuple[str, int] | None:
    """Return the parts of `host:port`.

    Returns:
        None for `unix:/path`.

    Raises:
        ValueError: The address is neither.
    """
    if address.startswith(_UNIX) and address != _UNIX:
        return None
    host, _, port = address.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    wrong = not bare or "/" in bare or (":" in bare and bare == host)
    if wrong or not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) <= _MAX_PORT):
        raise ValueError("must be host:port or unix:/path")
    return bare, int(port)


def is_local(address: str) -> bool:
    """Return whether an address is a loopback address or a Unix socket."""
    parts = host_and_port(address)
    if parts is None or parts[0] == "localhost":
        return True
    try:
        return ipaddress.ip_address(parts[0]).is_loopback
    except ValueError:
        return False


def tls_context(ca: Path | None, certificate: Path | None, client_key: Path | None) -> ssl.SSLContext:
    """Return the TLS settings of a caller.

    Raises:
        ValueError: A file is not what its option needs. The message names the option.
    """
    try:
        context = ssl.create_default_context(cafile=ca)
    except (ssl.SSLError, OSError):
        raise ValueError(f"--ca: {ca}: contains no certificates in PEM") from None
    context.set_alpn_protocols(["h2"])
    if certificate is not None and client_key is not None:
        try:
            context.load_cert_chain(certificate, client_key, password=_no_password)
        except (ssl.SSLError, OSError, ValueError):
            raise ValueError(
                "--certificate, --private-key: must be a certificate and its own private key, in PEM, without a pass phrase"
            ) from None
    return context


def _no_password() -> str:
    return ""


def explain(address: str, context: ssl.SSLContext | None, *, has_certificate: bool) -> tuple[str, str] | None:
    """Connect once more, and return a reason for programs and a text for people.

    Args:
        address: Of the service.
        context: TLS settings; None: plaintext.
        has_certificate: Whether the caller presents a certificate.

    Returns:
        None if the connection works now.
    """
    try:
        opened = _connect(address)
    except socket.gaierror:
        return "SERVICE_UNREACHABLE", f"the host name in {address} cannot be resolved"
    except OSError as e:
        text = "the connection timed out" if isinstance(e, TimeoutError) else e.strerror or type(e).__name__
        return "SERVICE_UNREACHABLE", f"no service can be reached at {address}: {text}"
    with opened:
        if context is None:
            return _about_plaintext(opened, address)
        return _about_tls(opened, address, context, has_certificate=has_certificate)


def _connect(address: str) -> socket.socket:
    parts = host_and_port(address)
    if parts is not None:
        return socket.create_connection(parts, timeout=_SECONDS)
    opened = socket.socket(socket.AF_UNIX)
    opened.settimeout(_SECONDS)
    try:
        opened.connect(address.removeprefix(_UNIX).removeprefix("//"))
    except OSError:
        opened.close()
        raise
    return opened


def _about_plaintext(opened: socket.socket, address: str) -> tuple[str, str] | None:
    try:
        opened.sendall(_PREFACE)
        first = opened.recv(9)
    except TimeoutError:
        return "SERVICE_UNREACHABLE", f"what listens at {address} does not answer"
    except OSError:
        first = b""
    if len(first) > 3 and first[3] == _SETTINGS:  # noqa: PLR2004 - the place of a frame's type
        return None
    if first.startswith((b"\x15", b"\x16")) or not first:
        return "TLS_REQUIRED", f"the service at {address} expects TLS: leave out --plaintext"
    return "NOT_GRPC", f"what listens at {address} is not a gRPC service"


def _about_tls(
    opened: socket.socket, address: str, context: ssl.SSLContext, *, has_certificate: bool
) -> tuple[str, str] | None:
    parts = host_and_port(address)
    refused = "does not accept your certificate" if has_certificate else "requires a client certificate"
    hint = "it must chain to the service's client_ca" if has_certificate else "give --certificate and --private-key"
    own = (
        ("CLIENT_CERTIFICATE_REFUSED" if has_certificate else "CLIENT_CERTIFICATE_REQUIRED"),
        (f"the service at {address} {refused}: {hint}"),
    )
    try:
        with context.wrap_socket(opened, server_hostname=parts[0] if parts else None) as wrapped:
            return None if wrapped.recv(1) else own
    except ssl.SSLCertVerificationError as e:
        text = f"the certificate of the service at {address} is not trusted: {e.verify_message.rstrip('.')}"
        return "SERVICE_CERTIFICATE_NOT_TRUSTED", f"{text} (--ca names the CA certificates to trust)"
    except TimeoutError:
        return "SERVICE_UNREACHABLE", f"what listens at {address} does not answer"
    except ssl.SSLError as e:
        if "ALERT" in (e.reason or ""):
            return own
        return "NOT_TLS", f"what listens at {address} does not use TLS (for a local service, use --plaintext)"
    except OSError:
        return own
