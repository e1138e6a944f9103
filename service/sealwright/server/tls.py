"""TLS with files that may be renewed. Each handshake checks them for changes; broken files leave the old ones in use."""

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
    """The files of the TLS listeners. Detects whether they have changed since the last check."""

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self._stamp: _Stamp | None = None

    def changed(self) -> bool:
        """Return whether a file has changed since the last call of `changed`; False if a file cannot be found."""
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
        """Return a context for HTTPS, which does not request a client certificate.

        Raises:
            OSError: A file cannot be read, or certificate and key do not match (`ssl.SSLError`).
        """
        for path in self._paths:
            Path(path).open("rb").close()  # the errors of ssl do not name a missing file
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self._settings.certificate, self._settings.private_key)
        return context

    def grpc_configuration(self) -> grpc.ServerCertificateConfiguration:
        """Return the configuration of mutual TLS for gRPC. gRPC itself would not report unusable files.

        Raises:
            OSError: A file cannot be read, or certificate and key do not match (`ssl.SSLError`).
        """
        self.context()
        chain, key, roots = (Path(p).read_bytes() for p in self._paths)
        ssl.create_default_context(cadata=roots.decode("ascii", "replace"))
        return grpc.ssl_server_certificate_configuration([(key, chain)], root_certificates=roots)

    @property
    def _paths(self) -> tuple[str, str, str]:
        return self._settings.certificate, self._settings.private_key, self._settings.client_ca


def https_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return a context for a listener that uses a renewed certificate from the next handshake on.

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
                log.info("the TLS files have changed; HTTPS uses the new certificate")
            except OSError:
                log.warning("the TLS files have changed and cannot be used; HTTPS still uses the old certificate")
        connection.context = current

    listening.sni_callback = on_hello  # called for each ClientHello, with or without a server name
    return listening


def grpc_credentials(settings: TlsSettings) -> grpc.ServerCredentials:
    """Return credentials for mutual TLS that use a renewed certificate from the next handshake on.

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
            log.warning("the TLS files have changed and cannot be used; gRPC still uses the old certificate")
            return None
        log.info("the TLS files have changed; gRPC uses the new certificate")
        return fresh

    return grpc.dynamic_ssl_server_credentials(
        first,
        renewed,  # type: ignore[arg-type] # gRPC's documentation allows None: unchanged
        require_client_authentication=True,
    )


def unusable(error: OSError) -> ConfigurationError:
    """Return the error for TLS files that cannot be used."""
    if isinstance(error, ssl.SSLError) or error.filename is None:
        return ConfigurationError(
            ["server.tls: the files are not certificates and a key in PEM, or certificate and key do not match"]
        )
    return ConfigurationError([f"server.tls: {error.strerror}: {error.filename}"])
