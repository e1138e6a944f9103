"""Certificate files of a TLS listener, for tests that break them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sealwright.server.settings import TlsSettings
from sealwright.server.tls import TlsFiles

DAY = timedelta(days=1)
NOW = datetime.now(UTC).replace(microsecond=0)
COMMENT = "# Ausgestellt für Zürich, 発行者\n".encode()
Key = Any


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: Key, password: bytes = b"", *, traditional: bool = False) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    formats = serialization.PrivateFormat
    kind = formats.TraditionalOpenSSL if traditional else formats.PKCS8
    return bytes(key.private_bytes(serialization.Encoding.PEM, kind, encryption))


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def p256() -> Key:
    return ec.generate_private_key(ec.SECP256R1())


class Files:
    """The three files, correct until a test breaks one of them."""

    def __init__(self, directory: Path) -> None:
        self.authority = p256()
        self.root = self.certificate(self.authority, "authority", authority=True)
        self.key = p256()
        self.leaf = self.certificate(self.key)
        self.paths = {n: directory / f"{n}.pem" for n in ("certificate", "private_key", "client_ca")}
        self.settings = TlsSettings(**{n: str(p) for n, p in self.paths.items()})
        self.write("certificate", pem(self.leaf))
        self.write("private_key", key_pem(self.key))
        self.write("client_ca", pem(self.root))

    def certificate(
        self,
        key: Key,
        subject: str = "localhost",
        *,
        start: datetime = NOW - DAY,
        end: datetime = NOW + 365 * DAY,
        **more: Any,
    ) -> x509.Certificate:
        """Return a certificate of the authority."""
        authority = more.get("authority", False)
        builder = (
            x509.CertificateBuilder()
            .issuer_name(name("authority"))
            .subject_name(name(subject))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(subject)]), critical=False)
        )
        return builder.sign(self.authority, hashes.SHA256())

    def write(self, which: str, content: bytes) -> None:
        """Replace a file as certificate tools do."""
        fresh = self.paths[which].with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(self.paths[which])

    def renew(self, key: Key, **more: Any) -> x509.Certificate:
        """Write another certificate and its key."""
        leaf = self.certificate(key, **more)
        self.write("private_key", key_pem(key))
        self.write("certificate", pem(leaf))
        return leaf

    def opened(self, at: datetime = NOW, *, for_grpc: bool = True) -> TlsFiles:
        return TlsFiles(self.settings, "gRPC", lambda: at, for_grpc=for_grpc)
