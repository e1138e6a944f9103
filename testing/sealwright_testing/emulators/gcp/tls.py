"""A certificate authority for the emulator's own TLS, new for each emulator."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID


class Authority:
    """A certificate authority, and a server certificate for loopback.

    Attributes:
        ca: Certificate of the authority, PEM: what clients must trust.
        certificate: Certificate of the server, PEM.
        key: Its key, PEM.
    """

    def __init__(self, names: tuple[str, ...] = ("localhost",)) -> None:
        """Issue the certificates, for these DNS names and for 127.0.0.1 and ::1."""
        root_key = ec.generate_private_key(ec.SECP256R1())
        root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sealwright emulator CA")])
        root = _certificate(root_name, root_name, root_key.public_key(), root_key, None)
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        addresses = [x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")]
        subjects = x509.SubjectAlternativeName([*(x509.DNSName(n) for n in names), *addresses])
        leaf = _certificate(name, root_name, key.public_key(), root_key, subjects)
        self.ca = root.public_bytes(Encoding.PEM)
        self.certificate = leaf.public_bytes(Encoding.PEM)
        self.key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    signer: ec.EllipticCurvePrivateKey,
    names: x509.SubjectAlternativeName | None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=names is None, path_length=None), critical=True)
    )
    if names is not None:
        builder = builder.add_extension(names, critical=False)
    return builder.sign(signer, hashes.SHA256())
