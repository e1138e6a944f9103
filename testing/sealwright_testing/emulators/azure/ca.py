"""A certificate authority of the emulator's own, and the certificate of its listener."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES: Final = (
    "localhost",
    "*.vault.localhost",
    "*.managedhsm.localhost",
    "*.vault.azure.net",
    "*.managedhsm.azure.net",
)
"""Names in the certificate. With the real ones, tests can use a production configuration whose resolver points here."""
_ADDRESSES: Final = ("127.0.0.1", "::1")
_DAY: Final = dt.timedelta(days=1)


class Authority:
    """Issues the listener's certificate. The private keys are gone once the context is made; the CA's certificate is a file."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="sealwright-azure-")
        self.path = Path(self._directory.name) / "ca.pem"
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sealwright emulator of Key Vault")])
        ca = _certificate(name, name, key.public_key(), authority=True).sign(key, hashes.SHA256())
        self.path.write_bytes(ca.public_bytes(Encoding.PEM))
        self.context = self._context(name, key)

    def close(self) -> None:
        """Remove the file."""
        self._directory.cleanup()

    def _context(self, issuer: x509.Name, issuer_key: ec.EllipticCurvePrivateKey) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAMES[0])])
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in NAMES]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in _ADDRESSES]
        builder = _certificate(subject, issuer, key.public_key(), authority=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        certificate = builder.sign(issuer_key, hashes.SHA256())
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        chain = Path(self._directory.name) / "server.pem"
        chain.write_bytes(private + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chain)
        chain.unlink()
        return context


def _certificate(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, *, authority: bool
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + 30 * _DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
