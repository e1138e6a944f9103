"""A caller's certificate is checked at each call: connections outlive certificates and authorities."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sealwright.app import App
from sealwright.errors import CallerUnauthenticatedError
from sealwright.server.rpc import caller_certificates
from sealwright.server.rpc.caller_certificates import CallerCertificates
from sealwright.server.tls import TlsFiles
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.emulators.aws import AwsEmulator
from service.test_tls import ORDER, SPIFFE, Authority, World, dns, served, uri
from support.service import audit_records, failure, until
from support.tls_files import DAY, Files, name, pem

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def world(tmp_path: Path, emulator: AwsEmulator) -> World:
    return World(tmp_path, emulator.endpoint)


@asynccontextmanager
async def connected(world: World, app: App, client: tuple[bytes, bytes]) -> AsyncIterator[Any]:
    """Connect as a client, and keep the connection."""
    async with world.channel(app, client) as channel:
        stub = SigningServiceStub(channel)
        assert (await stub.SignJwt(ORDER, timeout=5)).token
        yield stub


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Move the clock by which certificates are judged."""

    def move(by: timedelta) -> None:
        monkeypatch.setattr(caller_certificates, "now", (datetime.now(UTC) + by).timestamp)

    return move


async def test_f35_a_certificate_that_expires_ends_the_calls_of_an_open_connection(
    world: World, clock: Callable[[timedelta], None]
) -> None:
    async with served(world) as app, connected(world, app, world.clients.issue(uri(SPIFFE))) as stub:
        clock(timedelta(minutes=59))
        assert (await stub.SignJwt(ORDER, timeout=5)).token
        for by in (timedelta(minutes=61), timedelta(days=400), -timedelta(minutes=2)):
            clock(by)
            refused = await failure(stub.SignJwt(ORDER, timeout=5))
            assert (refused.code, refused.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")
            assert "expired" in refused.message
        clock(timedelta(0))
        assert (await stub.SignJwt(ORDER, timeout=5)).token
    denied = [r for r in audit_records(world.document, "sign") if r["outcome"] == "denied"]
    assert {r["reason"] for r in denied} == {"CALLER_UNAUTHENTICATED"}
    assert len(denied) == 3


async def test_f35_an_authority_that_is_removed_ends_the_calls_of_open_connections(world: World) -> None:
    other = Authority("others")
    world.write(world.client_ca, world.clients.pem + other.pem)
    async with (
        served(world) as app,
        connected(world, app, world.clients.issue(uri(SPIFFE))) as old,
        connected(world, app, other.issue(uri(SPIFFE))) as new,
    ):
        world.write(world.client_ca, other.pem)

        async def refused() -> bool:
            try:
                await old.SignJwt(ORDER, timeout=5)
            except grpc.aio.AioRpcError as error:
                return "no longer trusted" in (error.details() or "")
            return False

        await until(refused)
        assert (await new.SignJwt(ORDER, timeout=5)).token
        world.write(world.client_ca, world.clients.pem + other.pem)

        async def permitted() -> bool:
            return not await refused()

        await until(permitted)
        assert (await old.SignJwt(ORDER, timeout=5)).token


async def test_f35_a_broken_file_leaves_callers_alone(world: World, clock: Callable[[timedelta], None]) -> None:
    async with served(world) as app, connected(world, app, world.clients.issue(uri(SPIFFE))) as stub:
        world.write(world.client_ca, b"nothing")
        clock(timedelta(seconds=10))
        assert (await stub.SignJwt(ORDER, timeout=5)).token


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_f35_a_ticket_does_not_open_another_connection(
    world: World, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    certificate, key = world.clients.issue(uri(SPIFFE))
    (tmp_path / "client.pem").write_bytes(certificate + key)
    context = ssl.create_default_context(cadata=world.servers.pem.decode())
    context.load_cert_chain(tmp_path / "client.pem")
    context.set_alpn_protocols(["h2"])
    context.minimum_version = context.maximum_version = version

    def resumed(address: str) -> bool | None:
        host, _, port = address.rpartition(":")
        session, reused = None, None
        for _ in range(2):
            with (
                socket.create_connection((host, int(port)), timeout=5) as plain,
                context.wrap_socket(plain, server_hostname="localhost", session=session) as secure,
            ):
                secure.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
                secure.recv(100)
                session, reused = secure.session, secure.session_reused
        return reused

    async with served(world) as app:
        assert await asyncio.to_thread(resumed, app.addresses["grpc"]) is False


class Chain:
    """Authorities above one another, and a leaf below the last one."""

    def __init__(self, files: Files, *, ca: bool = True, **ends: datetime) -> None:
        self.files = files
        self.middle_key = ec.generate_private_key(ec.SECP256R1())
        self.middle = self._certificate("middle", self.middle_key, files.root.subject, files.authority, ca=ca, **ends)
        leaf_key = ec.generate_private_key(ec.SECP256R1())
        self.leaf = self._certificate("leaf", leaf_key, self.middle.subject, self.middle_key, ca=False)

    @staticmethod
    def _certificate(
        subject: str, key: Any, issuer: x509.Name, issuer_key: Any, *, ca: bool, end: datetime = NOW + 30 * DAY
    ) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(issuer).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(NOW - DAY).not_valid_after(end)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        builder = builder.add_extension(x509.SubjectAlternativeName([dns("billing.example.com")]), critical=False)
        return builder.sign(issuer_key, hashes.SHA256())


def judged(files: TlsFiles, leaf: x509.Certificate, *chain: x509.Certificate) -> str:
    callers = CallerCertificates()
    callers.use(files)
    return callers.caller(pem(leaf), b"".join(map(pem, chain)))


def test_f35_chains_are_followed_and_each_certificate_counts(
    tmp_path: Path, clock: Callable[[timedelta], None]
) -> None:
    files = Files(tmp_path)
    chain = Chain(files, end=NOW + DAY)
    opened = files.opened()
    clock(timedelta(0))
    assert judged(opened, chain.leaf, chain.middle) == "dns:billing.example.com"
    assert judged(opened, chain.leaf, chain.leaf, files.root, chain.middle) == "dns:billing.example.com"
    with pytest.raises(CallerUnauthenticatedError, match="no longer trusted"):
        judged(opened, chain.leaf)
    with pytest.raises(CallerUnauthenticatedError, match="no longer trusted"):
        judged(opened, chain.leaf, Chain(files).middle)
    clock(2 * DAY)
    with pytest.raises(CallerUnauthenticatedError, match="expired"):
        judged(opened, chain.leaf, chain.middle)
    clock(400 * DAY)
    with pytest.raises(CallerUnauthenticatedError, match="expired"):
        judged(opened, files.certificate(files.key, "billing.example.com", end=NOW + 500 * DAY))


def test_f35_only_an_authority_can_stand_in_the_middle(tmp_path: Path) -> None:
    files = Files(tmp_path)
    chain = Chain(files, ca=False)
    with pytest.raises(CallerUnauthenticatedError, match="no longer trusted"):
        judged(files.opened(), chain.leaf, chain.middle)
    files.write("client_ca", pem(chain.middle))
    with pytest.raises(CallerUnauthenticatedError, match="no longer trusted"):
        judged(files.opened(), chain.leaf, chain.middle)


def test_f35_an_intermediate_in_the_file_is_the_end_of_a_chain(tmp_path: Path) -> None:
    files = Files(tmp_path)
    chain = Chain(files)
    files.write("client_ca", pem(chain.middle))
    assert judged(files.opened(), chain.leaf) == "dns:billing.example.com"


@pytest.mark.parametrize("kind", [ed25519, rsa])
def test_f35_an_authority_of_the_same_name_with_another_key_is_another(tmp_path: Path, kind: Any) -> None:
    files = Files(tmp_path)
    leaf = files.certificate(files.key, "billing.example.com")
    opened = files.opened()
    assert judged(opened, leaf)
    callers = CallerCertificates()
    callers.use(opened)
    assert callers.caller(pem(leaf), b"") == "dns:billing.example.com"
    files.authority = (
        ed25519.Ed25519PrivateKey.generate() if kind is ed25519 else rsa.generate_private_key(65_537, 2048)
    )
    algorithm = None if kind is ed25519 else hashes.SHA256()
    builder = x509.CertificateBuilder().subject_name(files.root.subject).issuer_name(files.root.subject)
    builder = builder.public_key(files.authority.public_key()).serial_number(1)
    builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    files.write("client_ca", pem(builder.sign(files.authority, algorithm)))
    assert opened.renewed()
    with pytest.raises(CallerUnauthenticatedError, match="no longer trusted"):
        callers.caller(pem(leaf), b"")


@pytest.mark.parametrize("kind", ["copies", "renewed", "of one name"])
def test_f35_certificates_that_a_caller_sends_many_of_cost_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    files = Files(tmp_path)
    chain = Chain(files)
    root, key = files.root.subject, files.authority
    keys = [key if kind == "renewed" else ec.generate_private_key(ec.SECP256R1()) for _ in range(8)]
    sent = [files.root] * 8
    if kind != "copies":
        sent = [Chain._certificate("authority", own, root, key, ca=True) for own in keys]
    looks = 0
    may_issue = caller_certificates._may_issue

    def counted(*arguments: Any, **more: Any) -> bool:
        nonlocal looks
        looks += 1
        return may_issue(*arguments, **more)

    monkeypatch.setattr(caller_certificates, "_may_issue", counted)
    leaf = files.certificate(files.key, "billing.example.com")
    assert judged(files.opened(), leaf, *sent) == "dns:billing.example.com"
    assert judged(files.opened(), chain.leaf, chain.middle, *sent) == "dns:billing.example.com"
    assert looks < 200, "8! without a bound"


@pytest.mark.parametrize("number", [0, 63, 99])
def test_f35_each_of_many_authorities_of_one_name_is_found(tmp_path: Path, number: int) -> None:
    files = Files(tmp_path)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(100)]

    def certificate(subject: str, key: Any, by: Any, *, ca: bool) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name("one name"))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(NOW - DAY).not_valid_after(NOW + DAY)
        builder = builder.add_extension(x509.BasicConstraints(ca, None), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False
        )
        builder = builder.add_extension(x509.SubjectAlternativeName([dns("billing.example.com")]), critical=False)
        return builder.sign(by, hashes.SHA256())

    files.write("client_ca", b"".join(pem(certificate("one name", k, k, ca=True)) for k in keys))
    leaf = certificate("leaf", ec.generate_private_key(ec.SECP256R1()), keys[number], ca=False)
    assert judged(files.opened(), leaf) == "dns:billing.example.com"


def test_f35_what_is_known_of_certificates_is_bounded_and_quick(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path)
    monkeypatch.setattr(caller_certificates, "_KNOWN", 4)
    callers = CallerCertificates()
    callers.use(files.opened())
    leaves = [pem(files.certificate(files.key, f"host-{n}.example.com")) for n in range(10)]
    for _ in range(2):
        for n, leaf in enumerate(leaves):
            assert callers.caller(leaf, b"") == f"dns:host-{n}.example.com"
            assert len(callers._known) <= 4
    judged_again: list[bytes] = []
    monkeypatch.setattr(CallerCertificates, "_judge", lambda _self, leaf, *_: judged_again.append(leaf))
    callers.caller(leaves[-1], b"")
    assert judged_again == []
