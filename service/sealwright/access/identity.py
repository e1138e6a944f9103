"""Who calls: one name, marked by where it came from, and no fall-through from one source to another."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from cryptography import x509

from sealwright.errors import CallerUnauthenticatedError

LOCAL: Final = "local"
_MAX_NAME: Final = 2048


@lru_cache(maxsize=1024)
def caller_of_certificate(pem: bytes) -> str:
    """Return the caller that a client certificate names. That the certificate may be trusted the TLS stack has checked.

    A certificate with URI names must have exactly one, a SPIFFE ID (X509-SVID specification §2); one without must have exactly one DNS
    name, and the caller is `dns:` and that name. The subject's common name is never looked at (RFC 6125 §6.4.4).

    Args:
        pem: The leaf certificate.

    Raises:
        CallerUnauthenticatedError: The certificate names nobody, or more than one.
    """
    try:
        names = (
            x509.load_pem_x509_certificate(pem).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        )
    except (ValueError, x509.ExtensionNotFound):
        raise CallerUnauthenticatedError("the client certificate names no caller") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if uris:
        if len(uris) != 1 or not _is_spiffe_id(uris[0]):
            raise CallerUnauthenticatedError("the client certificate must have exactly one URI name, a SPIFFE ID")
        return uris[0]
    hosts = names.get_values_for_type(x509.DNSName)
    if len(hosts) != 1:
        raise CallerUnauthenticatedError("the client certificate must have one URI name or one DNS name")
    return f"dns:{hosts[0].lower()}"


def _is_spiffe_id(uri: str) -> bool:
    """SPIFFE-ID specification §2: scheme, trust domain, path; no query, fragment, port or user; no empty or dot segments."""
    if not uri.startswith("spiffe://") or len(uri) > _MAX_NAME or not uri.isascii() or any(c in uri for c in "?#%@ "):
        return False
    domain, slash, path = uri.removeprefix("spiffe://").partition("/")
    segments = path.split("/") if slash else []
    return bool(domain) and ":" not in domain and all(s not in {"", ".", ".."} for s in segments)
