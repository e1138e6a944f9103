"""The certificates and the key of the TLS listeners, read from PEM files and checked."""

from __future__ import annotations

import re
import ssl
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from sealwright.errors import ConfigurationError
from sealwright.server.settings import TlsSettings

# Text outside the boundaries is ignored (RFC 7468 §2), so it may have any encoding.
_BLOCK = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----[ \t]*\r?\n.*?^-----END \1-----", re.MULTILINE | re.DOTALL)
_CERTIFICATE_LABELS: Final = {b"CERTIFICATE", b"X509 CERTIFICATE"}
_ENCRYPTED: Final = (b"-----BEGIN ENCRYPTED PRIVATE KEY-----", b"Proc-Type: 4,ENCRYPTED")
_MIN_RSA_BITS: Final = 2048
_HTTP2_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2. RFC 9113 §9.2.2 and appendix A prohibit the others."""
_WARN_BEFORE: Final = timedelta(days=30)


def now() -> datetime:
    """Return the time of this machine."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What the TLS files hold.

    Attributes:
        chain: The service's own certificate and the intermediate ones.
        key: The private key of the first one in PEM, which only the TLS libraries read.
        roots: Certificates that callers' certificates must chain to; empty for HTTPS.
    """

    chain: tuple[x509.Certificate, ...]
    key: bytes
    roots: tuple[x509.Certificate, ...]

    @property
    def start(self) -> datetime:
        """The time from which the service's certificate is valid."""
        return self.chain[0].not_valid_before_utc

    @property
    def end(self) -> datetime:
        """The time at which the service's certificate expires."""
        return self.chain[0].not_valid_after_utc

    @property
    def chain_pem(self) -> bytes:
        """The chain in PEM, without any other text."""
        return _pem(self.chain)

    @property
    def roots_pem(self) -> bytes:
        """The callers' authorities in PEM, without any other text."""
        return _pem(self.roots)

    def untimely(self, at: datetime) -> str | None:
        """Return why nobody can connect at a time, or None."""
        if at > self.end:
            return f"server.tls.certificate: the certificate expired at {self.end.isoformat()}"
        if at < self.start:
            return f"server.tls.certificate: the certificate is not valid before {self.start.isoformat()}"
        if self.roots and not any(c.not_valid_before_utc <= at <= c.not_valid_after_utc for c in self.roots):
            return "server.tls.client_ca: no certificate in it is valid now, so every caller is refused"
        return None

    def advice(self, at: datetime) -> str | None:
        """Return what an operator should correct, or None.

        A certificate that lives for less than three months is due when two thirds of its time have passed.
        """
        problem = self.untimely(at)
        if problem is None and self.end - at < min(_WARN_BEFORE, (self.end - self.start) / 3):
            problem = f"server.tls.certificate: the certificate expires at {self.end.isoformat()}; renew it"
        return problem


def read(settings: TlsSettings, *, for_grpc: bool) -> Credentials:
    """Read and check the files. Dates are not checked; see `Credentials.untimely`.

    Args:
        settings: Names the files.
        for_grpc: Whether gRPC uses them, whose clients accept fewer kinds of keys, and which needs the callers' authorities.

    Raises:
        ConfigurationError: A file cannot be used.
    """
    chain = _certificates("certificate", settings.certificate)
    key = _private_key(settings.private_key)
    roots = _certificates("client_ca", settings.client_ca) if for_grpc else ()
    _check_kind(chain[0].public_key(), settings.certificate, for_grpc=for_grpc)
    https_context(settings)
    return Credentials(chain, key, roots)


def https_context(settings: TlsSettings) -> ssl.SSLContext:
    """Return a context for HTTPS, which does not request a client certificate. The files have been checked by `read`.

    Raises:
        ConfigurationError: The key cannot be used, or is not that of the certificate.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, settings)
    return context


def grpc_context(settings: TlsSettings, used: Credentials) -> ssl.SSLContext:
    """Return a context for gRPC, which requires a client certificate. The files have been checked by `read`.

    Args:
        settings: Names the files.
        used: What they held when they were checked. Callers' certificates must chain to any of its `roots`.

    Raises:
        ConfigurationError: The key cannot be used, or is not that of the certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_HTTP2_CIPHERS)
    context.set_alpn_protocols(["h2"])
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags = ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_TRUSTED_FIRST
    context.load_verify_locations(cadata=used.roots_pem.decode("ascii"))
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    _load(context, settings)
    return context


def _load(context: ssl.SSLContext, settings: TlsSettings) -> None:
    try:
        # A password is given so that OpenSSL never asks for one on the terminal.
        context.load_cert_chain(settings.certificate, settings.private_key, password="")
    except ssl.SSLError as e:
        problem = "OpenSSL cannot use this private key"
        if e.reason == "KEY_VALUES_MISMATCH":
            problem = (
                "is not the key of the first certificate in server.tls.certificate, which must be the service's own"
            )
        raise _refused("private_key", settings.private_key, problem) from None
    except (OSError, ValueError) as e:  # replaced since they were read
        raise _refused("private_key", settings.private_key, str(e)) from None


def _check_kind(key: object, path: str, *, for_grpc: bool) -> None:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < _MIN_RSA_BITS:
            raise _refused("certificate", path, f"an RSA key must have at least {_MIN_RSA_BITS} bits")
    elif for_grpc and not (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    ):
        # Measured with grpcio 1.85: its clients refuse P-521 and Ed25519.
        raise _refused("certificate", path, "clients of gRPC can only use certificates with RSA, P-256 and P-384 keys")


def _certificates(setting: str, path: str) -> tuple[x509.Certificate, ...]:
    found = []
    for label, block in _blocks(setting, path):
        if label in _CERTIFICATE_LABELS:
            try:
                found.append(x509.load_pem_x509_certificate(block.replace(b" X509 ", b" ")))
            except (ValueError, UnsupportedAlgorithm):
                number = f"certificate number {len(found) + 1} cannot be read"
                raise _refused(setting, path, number) from None
    if not found:
        raise _refused(setting, path, "has no certificate in PEM")
    return tuple(found)


def _private_key(path: str) -> bytes:
    for label, block in _blocks("private_key", path):
        if label.endswith(b"PRIVATE KEY"):
            if any(mark in block for mark in _ENCRYPTED):
                raise _refused("private_key", path, "is encrypted with a pass phrase; give a key without one")
            return block
    raise _refused("private_key", path, "has no private key in PEM")


def _blocks(setting: str, path: str) -> Iterator[tuple[bytes, bytes]]:
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):  # reading a pipe could block for ever
            raise _refused(setting, path, "is not a file")
        content = Path(path).read_bytes()
    except OSError as e:
        raise _refused(setting, path, e.strerror or "cannot be read") from e
    for match in _BLOCK.finditer(content):
        yield match[1], match[0] + b"\n"


def _pem(certificates: tuple[x509.Certificate, ...]) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)


def _refused(setting: str, path: str, problem: str) -> ConfigurationError:
    return ConfigurationError([f"server.tls.{setting}: {path}: {problem}"])
