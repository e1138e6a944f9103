from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from sealwright.access.identity import caller_of_certificate
from sealwright.errors import CallerUnauthenticatedError

SPIFFE = "spiffe://example.org/ns/payments/sa/signer"
KEY = ec.derive_private_key(7, ec.SECP256R1())
START = datetime(2026, 1, 1, tzinfo=UTC)


def certificate(
    names: Sequence[x509.GeneralName] = (), *, common_name: str = "", extensions: Sequence[x509.ExtensionType] = ()
) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA")]))
        .public_key(KEY.public_key())
        .serial_number(1)
        .not_valid_before(START)
        .not_valid_after(START + timedelta(days=3650))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not common_name)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.PEM)


def uri(text: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(text)


def dns(text: str) -> x509.GeneralName:
    return x509.DNSName(text)


def refused(pem: bytes) -> str:
    with pytest.raises(CallerUnauthenticatedError) as caught:
        caller_of_certificate(pem)
    return caught.value.message


def test_the_one_spiffe_id_is_the_caller() -> None:
    assert caller_of_certificate(certificate([uri(SPIFFE)])) == SPIFFE


def test_the_one_dns_name_is_the_caller_in_lower_case() -> None:
    assert caller_of_certificate(certificate([dns("Signer.Example.ORG")])) == "dns:signer.example.org"


def test_a_certificate_of_an_ordinary_authority_names_its_host() -> None:
    leaf = trustme.CA().issue_cert("signer.example.org", common_name="other.example.org")
    assert caller_of_certificate(leaf.cert_chain_pems[0].bytes()) == "dns:signer.example.org"


def test_a_spiffe_id_wins_over_dns_names_beside_it() -> None:
    assert caller_of_certificate(certificate([dns("a.example.org"), uri(SPIFFE), dns("b.example.org")])) == SPIFFE


@pytest.mark.parametrize(
    "uris",
    [
        [SPIFFE, SPIFFE + "2"],
        [SPIFFE, SPIFFE],
        [SPIFFE, "https://example.org/"],
        ["https://example.org/ns/payments"],
        ["urn:uuid:0b0b8d4c-3c1e-4d8c-8b0e-8c9d6d1c1b1a"],
    ],
    ids=["two", "one twice", "and another", "https", "urn"],
)
def test_uri_names_other_than_one_spiffe_id_are_refused_without_a_look_at_dns(uris: list[str]) -> None:
    assert "exactly one URI" in refused(certificate([uri(u) for u in uris]))
    assert "exactly one URI" in refused(certificate([*[uri(u) for u in uris], dns("a.example.org")]))


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://",
        "spiffe:///a",
        "spiffe://example.org",
        "spiffe://example.org/",
        "spiffe://example.org//a",
        "spiffe://example.org/a/",
        "spiffe://example.org/a/../b",
        "spiffe://example.org/./a",
        "spiffe://example.org/..",
        "spiffe://example.org:443/a",
        "spiffe://user@example.org/a",
        "spiffe://example.org/a?b",
        "spiffe://example.org/a#b",
        "spiffe://example.org/%61",
        "spiffe://example.org/*",
        "spiffe://example.org/a b",
        "spiffe://example.org/a\n",
        "spiffe://example.org/a\nb",
        'spiffe://example.org/"',
        "spiffe://Example.org/a",
        "SPIFFE://example.org/a",
        "spiffe://" + "a" * 256 + "/b",
        "spiffe://example.org/" + "a" * 2048,
    ],
)
def test_what_the_specification_does_not_allow_is_not_a_spiffe_id(text: str) -> None:
    assert "exactly one URI" in refused(certificate([uri(text)]))


@pytest.mark.parametrize("text", ["spiffe://a/...", "spiffe://a/.a", "spiffe://a-b_c.d/A-b_c.D/..b/c..", SPIFFE])
def test_what_the_specification_allows_is_a_spiffe_id(text: str) -> None:
    assert caller_of_certificate(certificate([uri(text)])) == text


@given(st.lists(st.text(st.sampled_from("ab./:?*\n"), max_size=3), max_size=4).map("/".join))
def test_a_spiffe_id_is_taken_exactly_if_each_segment_is_sound(path: str) -> None:
    segments = path.split("/")
    sound = all(s not in {"", ".", ".."} and set(s) <= set("ab.") for s in segments)
    pem = certificate([uri(f"spiffe://example.org/{path}")])
    if sound:
        assert caller_of_certificate(pem) == f"spiffe://example.org/{path}"
    else:
        refused(pem)


@pytest.mark.parametrize(
    "extension",
    [x509.BasicConstraints(ca=True, path_length=None), x509.BasicConstraints(ca=True, path_length=0)],
)
def test_the_certificate_of_a_spiffe_authority_is_not_a_caller(extension: x509.BasicConstraints) -> None:
    assert "CA certificate" in refused(certificate([uri(SPIFFE)], extensions=[extension]))


def test_a_leaf_that_declares_that_it_is_not_an_authority_is_a_caller() -> None:
    leaf = certificate([uri(SPIFFE)], extensions=[x509.BasicConstraints(ca=False, path_length=None)])
    assert caller_of_certificate(leaf) == SPIFFE


@pytest.mark.parametrize("names", [["a.example.org", "b.example.org"], ["a.example.org", "a.example.org"]])
def test_two_dns_names_are_refused(names: list[str]) -> None:
    assert "one DNS name" in refused(certificate([dns(n) for n in names]))


@pytest.mark.parametrize("name", ["*.example.org", "*", "", "a..b", "a.", ".a", "a/b", "a\nb", "a b", "a:b", "a" * 64])
def test_a_dns_name_that_names_no_one_host_is_refused(name: str) -> None:
    assert "one host" in refused(certificate([dns(name)]))


def test_a_dns_name_that_is_too_long_is_refused() -> None:
    assert "one host" in refused(certificate([dns(".".join(["a" * 60] * 5))]))


def test_the_common_name_is_not_looked_at() -> None:
    assert refused(certificate(common_name="signer.example.org"))
    assert refused(certificate(common_name=SPIFFE))
    assert caller_of_certificate(certificate([dns("a.example.org")], common_name=SPIFFE)) == "dns:a.example.org"


def test_names_of_other_kinds_name_no_caller() -> None:
    others = [x509.IPAddress(ip_address("192.0.2.1")), x509.RFC822Name("a@example.org")]
    assert refused(certificate(others))
    assert caller_of_certificate(certificate([*others, dns("a.example.org")])) == "dns:a.example.org"


@pytest.mark.parametrize(
    "pem", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], ids=len
)
def test_bytes_that_are_not_a_certificate_name_no_caller(pem: bytes) -> None:
    assert refused(pem)


def altered(pem: bytes, old: bytes, new: bytes) -> bytes:
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    assert len(old) == len(new)
    assert old in der
    return x509.load_der_x509_certificate(der.replace(old, new)).public_bytes(Encoding.PEM)


def test_two_extensions_with_names_are_refused() -> None:
    """`cryptography` raises an error that is not a ValueError for it, which must not become INTERNAL."""
    issuer_names = x509.IssuerAlternativeName([uri("spiffe://example.org/other")])
    pem = certificate([uri(SPIFFE)], extensions=[issuer_names])
    assert caller_of_certificate(pem) == SPIFFE
    assert "names no caller" in refused(altered(pem, bytes.fromhex("0603551d12"), bytes.fromhex("0603551d11")))


def test_a_kind_of_name_that_cannot_be_read_is_refused() -> None:
    pem = certificate([x509.RegisteredID(x509.ObjectIdentifier("1.2.3")), dns("a.example.org")])
    assert caller_of_certificate(pem) == "dns:a.example.org"
    assert "names no caller" in refused(altered(pem, bytes.fromhex("88022a03"), bytes.fromhex("85022a03")))
