"""TLS from files that may be renewed: they are looked at for each handshake, and what is broken leaves the old in force."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path

import grpc

from sealwright.errors import ConfigurationError
from sealwright.server.settings import TlsSettings

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]


class TlsFiles:
    """The files of the TLS listeners, and whether they have changed since they were last asked for."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._stamp: _Stamp | None = None

    def changed(self) -> bool:
        """Tell whether a file has changed since `changed` was last asked. Files that cannot be seen have not."""
        try:
            files = [Path(p).stat() for p in self._paths]
        except OSError:
            return False
        stamp = tuple((f.st_mtime_ns, f.st_ino, f.st_size) for f in files)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        return True

    def context(self) -> ssl.SSLContext:
        """Return a context for HTTPS, which asks for no client certificate.

        Raises:
            OSError: A file cannot be read, or the files do not fit together (`ssl.SSLError`).
        """
        for path in self._paths:
            Path(path).open("rb").close()  # ssl says of a file that is missing not which one
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._settings.certificate, self._settings.private_key)
        return context

    def grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return the configuration of mutual TLS for gRPC.

        Raises:
            OSError: A file cannot be read, or the files do not fit together; gRPC itself would not say so.
        """
        self.context()
        chain, key, roots = (Path(p).read_bytes() for p in self._paths)
        ssl.create_default_context(cadata=roots.decode("ascii", "replace"))
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    @property
    def _paths(self) -> tuple[str, str, str]:
        return self._settings.certificate, self._settings.private_key, self._settings.client_ca


def https_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return a context for a listener that shows a renewed certificate from the next handshake on.

    Raises:
        ConfigurationError: The files cannot be used.
    """
    files = TlsFiles(settings)
    files.changed()
    try:
        listening = current = files.context()
    except OSError as e:
        raise unusable(e) from e

    def on_hello(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal current
        if files.changed():
            try:
                current = files.context()
                log.info("the TLS files have changed; HTTPS shows the new certificate")
            except OSError:
                log.warning("the TLS files have changed and cannot be used; HTTPS goes on with the old certificate")
        connection.context = current

    listening.sni_callback = on_hello  # called for each hello, with a name or without
    return listening


def grpc_credentials(settings: TlsSettings) -> grpc.ServerCredentials:
    """Return credentials for mutual TLS that show a renewed certificate from the next handshake on.

    Raises:
        ConfigurationError: The files cannot be used.
    """
    files = TlsFiles(settings)
    files.changed()
    try:
        first = files.grpc_configuration()
    except OSError as e:
        raise unusable(e) from e

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        if not files.changed():
            return None
        try:
            fresh = files.grpc_configuration()
        except OSError:
            log.warning("the TLS files have changed and cannot be used; gRPC goes on with the old certificate")
            return None
        log.info("the TLS files have changed; gRPC shows the new certificate")
        return fresh

    return grpc.dynamic_ssl_server_credentials(
        first,
        renewed,  # type: ignore[arg-type] # None, says gRPC's documentation, means: unchanged
        require_client_authentication=True,
    )


def unusable(error: OSError) -> ConfigurationError:
    """Return what an operator is told of TLS files that cannot be used."""
    if isinstance(error, ssl.SSLError) or error.filename is None:
        return ConfigurationError(["server.tls: the files are no certificates and key in PEM, or do not fit together"])
    return ConfigurationError([f"server.tls: {error.strerror}: {error.filename}"])
