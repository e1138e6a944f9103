"""The name of a caller.

Its prefix tells the source of the name. A caller that one source cannot name never gets a name from another source.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from cryptography import x509

from sealwright.errors import CallerUnauthenticatedError

LOCAL: Final = "local"
_MAX_SPIFFE_ID: Final = 2048
_SPIFFE_ID = re.compile(r"spiffe://[a-z0-9._-]{1,255}(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]+)+")
_DNS_NAME = re.compile(r"[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_MAX_DNS_NAME: Final = 253
_UNREADABLE: Final = (
    ValueError,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    x509.InvalidVersion,
)


@lru_cache(maxsize=1024)
def caller_of_certificate(pem: bytes) -> str:
    """Return the caller that a client certificate names. The TLS stack has already verified the certificate.

    The certificate must not be a CA certificate. With URI names, it must have exactly one, the SPIFFE ID of a workload
    (X509-SVID specification §2, §3.1 and §5.2). Without URI names, it must have exactly one DNS name, without a wildcard; the
    caller is then `dns:` and that name. The subject's common name is ignored (RFC 6125 §6.4.4).

    Args:
        pem: The leaf certificate.

    Raises:
        CallerUnauthenticatedError: The certificate names no caller, or more than one.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        authority = _is_authority(certificate)
    except _UNREADABLE:
        raise CallerUnauthenticatedError("the client certificate names no caller") from None
    if authority:
        raise CallerUnauthenticatedError("the client certificate must not be a CA certificate")
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if uris:
        if len(uris) != 1 or not _is_workload_id(uris[0]):
            raise CallerUnauthenticatedError(
                "the client certificate must have exactly one URI name, a workload's SPIFFE ID"
            )
        return uris[0]
    hosts = names.get_values_for_type(x509.DNSName)
    if len(hosts) != 1:
        raise CallerUnauthenticatedError("the client certificate must have one URI name or one DNS name")
    host = hosts[0].lower()
    if len(host) > _MAX_DNS_NAME or not _DNS_NAME.fullmatch(host):
        raise CallerUnauthenticatedError("the client certificate's DNS name does not name one host")
    return f"dns:{host}"


def _is_workload_id(uri: str) -> bool:
    """Return whether a URI is the SPIFFE ID of a workload: scheme, trust domain and a path (SPIFFE-ID specification §2).

    The segments of the path must not be empty, `.` or `..`.
    """
    return len(uri) <= _MAX_SPIFFE_ID and _SPIFFE_ID.fullmatch(uri) is not None


def _is_authority(certificate: x509.Certificate) -> bool:
    """Return whether a certificate may sign others. X509-SVID §5.2 asks for both extensions to be looked at."""
    for extension in certificate.extensions:
        match extension.value:
            case x509.BasicConstraints(ca=True) | x509.KeyUsage(key_cert_sign=True) | x509.KeyUsage(crl_sign=True):
                return True
    return False
