"""Checks the certificate of a caller at each call, because a connection outlives certificates and authorities.

TLS verifies a certificate in the handshake alone. Here, what was true then must still be true: the leaf and each certificate above
it are valid at the time of the call, and the chain ends at a certificate of the CA file that is in force now.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.access.identity import caller_of_certificate
from sealwright.errors import CallerUnauthenticatedError
from sealwright.server.certificates import Credentials
from sealwright.server.tls import TlsFiles

_POLL_SECONDS: Final = 1.0
"""Time between two looks at the files while nobody connects."""
_KNOWN: Final = 4096
_MAX_CHAIN: Final = 8
_MAX_CHECKS: Final = 64
"""Signatures that are verified for one certificate and those sent with it: an authority can send many that sign each other."""
_NOT_ISSUED: Final = (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm)

Times = tuple[float, float]
"""From when to when a chain is valid, in seconds since 1970."""


def now() -> float:
    """Return the time of this machine, in seconds since 1970."""
    return time.time()


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What was found about a certificate.

    Attributes:
        name: The caller.
        times: When its chains to the CA file are valid.
        files: The files that it was compared with.
    """

    name: str
    times: Sequence[Times]
    files: Credentials


class CallerCertificates:
    """Names callers by their certificates. What was found about a certificate is kept until the files change."""

    def __init__(self) -> None:
        self._files: TlsFiles | None = None
        self._known: dict[tuple[bytes, bytes], _Verdict] = {}
        self._next_poll = 0.0

    def use(self, files: TlsFiles) -> None:
        """Compare certificates with these files."""
        self._files = files

    def caller(self, leaf: bytes, chain: bytes) -> str:
        """Return the caller that a certificate names.

        Args:
            leaf: The caller's certificate, in PEM, as TLS has verified it.
            chain: The certificates that the caller sent with it, in PEM.

        Raises:
            CallerUnauthenticatedError: The certificate names no caller, has expired, or is not by an authority in force.
        """
        files = self._files
        if files is None:
            raise CallerUnauthenticatedError("the connection has no client certificate")
        at = now()
        if not 0 <= self._next_poll - at <= _POLL_SECONDS:
            self._next_poll = at + _POLL_SECONDS
            files.renewed()
        verdict = self._known.get((leaf, chain))
        if verdict is None or verdict.files is not files.used:
            verdict = self._judge(leaf, chain, files.used)
        for start, end in verdict.times:
            if start <= at <= end:
                return verdict.name
        if verdict.times:
            raise CallerUnauthenticatedError("the client certificate, or one above it, has expired or is not valid yet")
        raise CallerUnauthenticatedError("the authority of the client certificate is no longer trusted")

    def _judge(self, leaf: bytes, chain: bytes, files: Credentials) -> _Verdict:
        name = caller_of_certificate(leaf)
        try:
            certificate = x509.load_pem_x509_certificate(leaf)
            between = x509.load_pem_x509_certificates(chain) if chain else []
            times = tuple(_Search(files.roots).times(certificate, between[:_MAX_CHAIN]))
        except (ValueError, UnsupportedAlgorithm):
            raise CallerUnauthenticatedError("the client certificate cannot be read") from None
        verdict = _Verdict(name, times, files)
        if len(self._known) >= _KNOWN:
            self._known.clear()
        self._known[leaf, chain] = verdict
        return verdict


class _Search:
    """Finds the chains from a certificate to the certificates of the CA file."""

    def __init__(self, anchors: Sequence[x509.Certificate]) -> None:
        self._anchors = anchors
        self._checks = 0

    def times(self, certificate: x509.Certificate, between: Sequence[x509.Certificate]) -> Iterator[Times]:
        """Yield when each chain from a certificate to an anchor is valid.

        Any certificate of the CA file may be the end of a chain, not only self-signed ones, as in the handshake.

        Args:
            certificate: The certificate.
            between: Certificates that may be in between, each once.
        """
        own = _times(certificate)
        if certificate in self._anchors:
            yield own
        for anchor in self._anchors:
            if self._issued(anchor, certificate, by_default=True):
                yield _within(own, _times(anchor))
        for issuer in between:
            if self._issued(issuer, certificate, by_default=False):
                # Neither it nor a copy: a chain has each authority once (RFC 5280 §6.1).
                for times in self.times(issuer, [c for c in between if not _same_authority(c, issuer)]):
                    yield _within(own, times)

    def _issued(self, issuer: x509.Certificate, certificate: x509.Certificate, *, by_default: bool) -> bool:
        """Return whether a certificate was issued by another one that may do so.

        Args:
            issuer: The other one.
            certificate: The certificate.
            by_default: Whether an issuer without BasicConstraints may issue, as old roots do.
        """
        if issuer.subject != certificate.issuer or not _may_issue(issuer, by_default=by_default):
            return False
        wanted, has = _key_id(certificate, x509.AuthorityKeyIdentifier), _key_id(issuer, x509.SubjectKeyIdentifier)
        if None not in {wanted, has} and wanted != has:
            return False
        self._checks += 1
        if self._checks > _MAX_CHECKS:
            return False
        try:
            certificate.verify_directly_issued_by(issuer)
        except _NOT_ISSUED:
            return False
        return True


def _key_id(
    certificate: x509.Certificate, kind: type[x509.AuthorityKeyIdentifier | x509.SubjectKeyIdentifier]
) -> bytes | None:
    """Return the identifier of a key that an extension names (RFC 5280 §4.2.1.1 and §4.2.1.2); None: it names none."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value.key_identifier
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError):
        return None


def _may_issue(certificate: x509.Certificate, *, by_default: bool) -> bool:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return by_default
    except (ValueError, x509.DuplicateExtension):
        return False


def _times(certificate: x509.Certificate) -> Times:
    return certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()


def _same_authority(one: x509.Certificate, other: x509.Certificate) -> bool:
    if one == other:
        return True
    return one.subject == other.subject and _key(one) == _key(other)


def _key(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except (ValueError, UnsupportedAlgorithm):
        return certificate.public_bytes(Encoding.DER)


def _within(one: Times, other: Times) -> Times:
    return max(one[0], other[0]), min(one[1], other[1])
