"""TLS with files that may be renewed. Each handshake checks them for changes; broken files leave the old ones in use."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from sealwright.errors import ConfigurationError
from sealwright.server import certificates
from sealwright.server.settings import TlsSettings

log = logging.getLogger(__name__)

_Stamp = tuple[tuple[int, int, int], ...]
_ADVICE_INTERVAL: Final = timedelta(days=1)


class TlsFiles:
    """The files of a TLS listener.

    Attributes:
        used: What the listener uses of them.
    """

    def __init__(
        self, settings: TlsSettings, listener: str, clock: Callable[[], datetime] = certificates.now, *, for_grpc: bool
    ) -> None:
        """Read the files for the first time, and warn of certificates that have expired or soon will.

        Raises:
            ConfigurationError: The files cannot be used.
        """
        self._settings = settings
        self._listener = listener
        self._clock = clock
        self._for_grpc = for_grpc
        self._stamp: _Stamp | None = None
        self._again: datetime | None = None
        self._changed()
        self.used = certificates.read(settings, for_grpc=for_grpc)
        self._advise(clock())

    def renewed(self) -> bool:
        """Return whether files have changed and are in use now. Files that cannot be used leave the old ones in use.

        A certificate that is not valid yet is used as soon as it is.
        """
        now = self._clock()
        due = self._again is not None and now >= self._again
        if not self._changed() and not due:
            if now >= self._next_advice:
                self._advise(now)
            return False
        self._again = None
        try:
            fresh = certificates.read(self._settings, for_grpc=self._for_grpc)
        except ConfigurationError as e:
            self._keep(str(e))
            return False
        problem = fresh.untimely(now)
        if problem is not None:
            self._again = fresh.start if now < fresh.start else None
            self._keep(problem)
            return False
        self.used = fresh
        log.info("the TLS files have changed; %s uses the new certificate", self._listener)
        self._advise(now)
        return True

    def _keep(self, problem: str) -> None:
        log.warning("the TLS files have changed, but %s still uses the old ones: %s", self._listener, problem)

    def https_context(self) -> ssl.SSLContext:
        """Return a context for HTTPS.

        Raises:
            ConfigurationError: The files have changed since they were checked, and cannot be used.
        """
        return certificates.https_context(self._settings)

    def grpc_context(self) -> ssl.SSLContext:
        """Return a context for mutual TLS.

        Raises:
            ConfigurationError: The files have changed since they were checked, and cannot be used.
        """
        return certificates.grpc_context(self._settings, self.used)

    def _advise(self, now: datetime) -> None:
        self._next_advice = now + _ADVICE_INTERVAL
        advice = self.used.advice(now)
        if advice is not None:
            log.warning("%s: %s", self._listener, advice)

    def _changed(self) -> bool:
        """Return whether a file has changed since the last call; False if a file cannot be found."""
        paths = (self._settings.certificate, self._settings.private_key, self._settings.client_ca)
        try:
            files = [Path(p).stat() for p in paths]
        except OSError:
            return False
        stamp = tuple((f.st_mtime_ns, f.st_ino, f.st_size) for f in files)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        return True


def https_context(files: TlsFiles) -> ssl.SSLContext:
    """Return a context for a listener that uses a renewed certificate from the next handshake on.

    Raises:
        ConfigurationError: The files cannot be used.
    """
    listening = current = files.https_context()

    def on_hello(connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext) -> None:
        nonlocal current
        if files.renewed():
            try:
                current = files.https_context()
            except ConfigurationError as e:  # changed again since they were checked
                log.warning("HTTPS still uses the old certificate: %s", e)
        connection.context = current

    listening.sni_callback = on_hello  # called for each ClientHello, with or without a server name
    return listening


def grpc_context(files: TlsFiles) -> Callable[[], ssl.SSLContext]:
    """Return what makes a context of mutual TLS for each connection, with the certificate that is in use then.

    Each handshake gets a context of its own. A session of TLS 1.2 or a ticket of another handshake is unknown to it, so no
    connection is resumed without showing a certificate. Python has no setting for that.
    """
    made = files.grpc_context()

    def context() -> ssl.SSLContext:
        nonlocal made
        files.renewed()
        try:
            made = files.grpc_context()
        except ConfigurationError as e:  # changed again since they were checked
            log.warning("gRPC still uses the old certificate: %s", e)
        return made

    return context
