"""Who is behind a connection."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass, field
from typing import Any, Final

_DER: Final = 2
"""`ENCODING_DER` of Python's C module `_ssl`."""


@dataclass(slots=True)
class Peer:
    """The other side of a connection.

    Attributes:
        address: For the audit, in gRPC's form (`ipv4:127.0.0.1:51422`), or who is behind a Unix socket.
        group: What shares the limit of connections: an address, or a user.
        user: The caller behind a Unix socket; None: the kernel does not name the user, or it is not a Unix socket.
        certificates: The client's certificate, and those that it sent with it, in PEM; None: it has shown none.
    """

    address: str
    group: str
    user: str | None = None
    certificates: tuple[bytes, bytes] | None = field(default=None, repr=False)


def tcp_peer(accepted: socket.socket, address: Any) -> Peer:
    """Return who is behind a TCP connection.

    Args:
        accepted: The connection.
        address: The client's address, as `socket.accept` returns it.
    """
    host, port = str(address[0]), address[1]
    name = f"ipv4:{host}:{port}"
    if accepted.family == socket.AF_INET6:
        mapped = host.removeprefix("::ffff:")
        name = f"ipv4:{mapped}:{port}" if mapped != host and "." in mapped else f"ipv6:%5B{host}%5D:{port}"
    return Peer(name, host)


def certificates(tls: Any) -> tuple[bytes, bytes] | None:
    """Return the certificate of a client, and those that it sent with it, in PEM; None: it has shown none.

    Args:
        tls: An `ssl.SSLObject` whose handshake is complete.
    """
    leaf = tls.getpeercert(binary_form=True)
    if leaf is None:
        return None
    chain = _sent(tls)
    return _pem(leaf), b"".join(_pem(one) for one in chain if one != leaf)


def _sent(tls: Any) -> list[bytes]:
    if hasattr(tls, "get_unverified_chain"):  # from Python 3.13 on
        return [bytes(one) for one in tls.get_unverified_chain()]
    return [one.public_bytes(_DER) for one in tls._sslobj.get_unverified_chain()]  # noqa: SLF001


def _pem(certificate: bytes) -> bytes:
    return ssl.DER_cert_to_PEM_cert(certificate).encode()
