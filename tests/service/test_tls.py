"""Mutual TLS, HTTPS and the Unix socket: who may connect, and as whom."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sealwright.app import App, build
from sealwright.config import parse
from sealwright.v1.jwks_pb2 import GetJwksRequest
from sealwright.v1.jwks_pb2_grpc import JwksServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document
from support.service import audit_records, failure, running

SPIFFE = "spiffe://example.org/ns/payments/sa/issuer"
ORDER = SignJwtRequest(issuer="issuers/payments", claims_json="{}")
Pair = tuple[bytes, bytes]


def uri(value: str) -> x509.GeneralName:
    return x509.UniformResourceIdentifier(value)


def dns(value: str) -> x509.GeneralName:
    return x509.DNSName(value)


KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Authority:
    """A certificate authority."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        constraints = x509.BasicConstraints(ca=True, path_length=0)
        usage = x509.KeyUsage(**{u: u in {"key_cert_sign", "crl_sign"} for u in KEY_USAGES})
        builder = self._builder(self._name, self._key.public_key()).add_extension(constraints, critical=True)
        builder = builder.add_extension(usage, critical=True)
        self.pem = builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: x509.GeneralName, common_name: str = "a common name") -> Pair:
        """Return a certificate and its key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]), key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return (
            builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .issuer_name(self._name)
            .subject_name(subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=1))
            .not_valid_after(now + timedelta(hours=1))
            # RFC 5280 §4.2.1.1 and §4.2.1.2, which Python looks for from 3.13 on.
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        )


class World:
    """The files of a service, who signs them, and a configuration that names them."""

    def __init__(self, directory: Path, endpoint: str) -> None:
        self.servers, self.clients = Authority("servers"), Authority("clients")
        self.certificate, self.private_key, self.client_ca = (
            directory / f for f in ("tls.crt", "tls.key", "clients.crt")
        )
        self.renew()
        self.write(self.client_ca, self.clients.pem)
        grants = [self.grant(f"{SPIFFE.rpartition('/')[0]}/*"), self.grant("dns:billing.example.com")]
        self.document = document(directory, endpoint, grants=grants)
        files = {n: str(getattr(self, n)) for n in ("certificate", "private_key", "client_ca")}
        self.document["server"] = {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "admin": "127.0.0.1:0", "tls": files}

    @staticmethod
    def grant(caller: str) -> dict[str, Any]:
        anything = {"subjects": ["**"], "audiences": ["**"], "token_types": ["*"]}
        return {"caller": caller, "roles": ["signer"], "issuers": ["payments"], **anything}

    @staticmethod
    def write(path: Path, content: bytes) -> None:
        """Replace a file as certificate tools do."""
        fresh = path.with_suffix(".new")
        fresh.write_bytes(content)
        fresh.replace(path)

    def renew(self) -> bytes:
        """Give the service a new certificate, and return it as DER."""
        pem, key = self.servers.issue(dns("localhost"), x509.IPAddress(ip_address("127.0.0.1")))
        self.write(self.private_key, key)
        self.write(self.certificate, pem)
        return ssl.PEM_cert_to_DER_cert(pem.decode())

    def channel(self, app: App, client: Pair | None) -> grpc.aio.Channel:
        """Connect as a client with its certificate, or with none."""
        certificate, key = client or (None, None)
        credentials = grpc.ssl_channel_credentials(self.servers.pem, private_key=key, certificate_chain=certificate)
        return grpc.aio.secure_channel(app.addresses["grpc"], credentials)

    async def sign(self, app: App, client: Pair | None) -> Any:
        async with self.channel(app, client) as channel:
            return await SigningServiceStub(channel).SignJwt(ORDER, timeout=5)


@pytest.fixture
def world(tmp_path: Path, emulator: AwsEmulator) -> World:
    return World(tmp_path, emulator.endpoint)


@asynccontextmanager
async def served(world: World) -> AsyncIterator[App]:
    app = build(parse(world.document))
    await app.start()
    try:
        await app.wait_until_useful()
        yield app
    finally:
        await app.stop()


@pytest.mark.parametrize(
    ("name", "caller"),
    [(uri(SPIFFE), SPIFFE), (dns("Billing.example.com"), "dns:billing.example.com")],
    ids=["SPIFFE", "DNS"],
)
async def test_the_one_name_of_a_client_certificate_is_the_caller_and_stands_in_the_audit(
    world: World, name: x509.GeneralName, caller: str
) -> None:
    async with served(world) as app:
        assert (await world.sign(app, world.clients.issue(name))).token
    (record,) = audit_records(world.document, "sign")
    assert (record["caller"], record["outcome"]) == (caller, "allowed")


async def test_a_grant_is_for_the_callers_that_its_pattern_names(world: World) -> None:
    strangers = [
        uri("spiffe://example.org/ns/other/sa/issuer"),
        uri("spiffe://example.org/ns/payments/sa/issuer/deeper"),
        uri("spiffe://example.com/ns/payments/sa/issuer"),
        dns("evil.billing.example.com"),
        dns("local"),
    ]
    async with served(world) as app:
        for name in strangers:
            refused = await failure(world.sign(app, world.clients.issue(name)))
            assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "CALLER_NOT_PERMITTED")
    records = audit_records(world.document, "sign")
    assert {r["outcome"] for r in records} == {"denied"}
    expected = [f"dns:{n.value}" if isinstance(n, x509.DNSName) else n.value for n in strangers]
    assert [r["caller"] for r in records] == expected


@pytest.mark.parametrize(
    "names",
    [
        [uri(SPIFFE), uri("spiffe://example.org/ns/payments/sa/other")],
        [uri("https://example.org/ns/payments"), dns("billing.example.com")],
        [dns("billing.example.com"), dns("payments.example.com")],
        [dns("*.example.com")],
        [],
    ],
    ids=["two URIs", "no SPIFFE ID", "two hosts", "a wildcard", "only a common name"],
)
async def test_a_certificate_that_does_not_name_one_caller_is_refused(
    world: World, names: list[x509.GeneralName]
) -> None:
    async with served(world) as app:
        client = world.clients.issue(*names, common_name="billing.example.com")
        refused = await failure(world.sign(app, client))
        assert (refused.code, refused.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")
        async with world.channel(app, client) as channel:
            answer = await JwksServiceStub(channel).GetJwks(GetJwksRequest(issuer="issuers/payments"), timeout=5)
            assert answer.jwks_json, "which is public, whoever asks"
    (record,) = audit_records(world.document, "sign")
    assert "caller" not in record
    assert (record["outcome"], record["reason"]) == ("denied", "CALLER_UNAUTHENTICATED")


async def test_without_a_certificate_of_the_clients_authority_there_is_no_connection(world: World) -> None:
    stranger, self_made = world.servers.issue(uri(SPIFFE)), Authority("clients").issue(uri(SPIFFE))
    async with served(world) as app:
        for client in (None, stranger, self_made):
            refused = await failure(world.sign(app, client))
            assert (refused.code, refused.reason) == ("UNAVAILABLE", "")
        async with grpc.aio.insecure_channel(app.addresses["grpc"]) as channel:
            refused = await failure(SigningServiceStub(channel).SignJwt(ORDER, timeout=5))
            assert (refused.code, refused.reason) == ("UNAVAILABLE", "")
        assert (await world.sign(app, world.clients.issue(uri(SPIFFE)))).token
    assert len(audit_records(world.document, "sign")) == 1


def shown_by(address: str) -> bytes:
    """Return the certificate that a listener shows, DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=5) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert(binary_form=True) or b""


async def test_a_certificate_is_renewed_without_a_restart_and_old_connections_live_on(world: World) -> None:
    client = world.clients.issue(uri(SPIFFE))
    async with served(world) as app, world.channel(app, client) as old:
        stub = SigningServiceStub(old)
        assert (await stub.SignJwt(ORDER, timeout=5)).token
        before = await asyncio.to_thread(shown_by, app.addresses["grpc"])
        renewed = world.renew()
        assert renewed != before
        assert await asyncio.to_thread(shown_by, app.addresses["grpc"]) == renewed
        assert (await stub.SignJwt(ORDER, timeout=5)).token
        assert (await world.sign(app, client)).token


@pytest.mark.parametrize("damage", ["certificate", "private_key", "client_ca", "another key", "missing"])
async def test_broken_files_keep_the_old_certificate_until_they_are_right(world: World, damage: str) -> None:
    client = world.clients.issue(uri(SPIFFE))
    async with served(world) as app:
        before = await asyncio.to_thread(shown_by, app.addresses["grpc"])
        if damage == "missing":
            world.certificate.unlink()
        elif damage == "another key":
            world.write(world.private_key, world.servers.issue(dns("localhost"))[1])
        else:
            world.write(getattr(world, damage), b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
        for _ in range(2):
            assert await asyncio.to_thread(shown_by, app.addresses["grpc"]) == before
            assert (await world.sign(app, client)).token
        world.write(world.client_ca, world.clients.pem)
        renewed = world.renew()
        assert await asyncio.to_thread(shown_by, app.addresses["grpc"]) == renewed
        assert (await world.sign(app, client)).token


async def test_another_authority_of_clients_is_obeyed_without_a_restart(world: World) -> None:
    old, fresh = world.clients, Authority("fresh")
    async with served(world) as app:
        assert (await failure(world.sign(app, fresh.issue(uri(SPIFFE))))).code == "UNAVAILABLE"
        world.write(world.client_ca, fresh.pem)
        assert (await world.sign(app, fresh.issue(uri(SPIFFE)))).token
        assert (await failure(world.sign(app, old.issue(uri(SPIFFE))))).code == "UNAVAILABLE"


def https(world: World) -> ssl.SSLContext:
    return ssl.create_default_context(cadata=world.servers.pem.decode())


async def test_the_public_listener_speaks_https_with_the_same_certificate_to_anybody(world: World) -> None:
    async with served(world) as app, aiohttp.ClientSession() as session:
        path = f"{app.addresses['http']}/payments/.well-known/jwks.json"
        async with session.get(f"https://{path}", ssl=https(world)) as answer:
            assert answer.status == 200
            assert (await answer.json())["keys"]
        assert await asyncio.to_thread(shown_by, app.addresses["http"]) == await asyncio.to_thread(
            shown_by, app.addresses["grpc"]
        )
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://{path}")


async def test_the_public_listeners_certificate_is_renewed_without_a_restart(world: World) -> None:
    async with served(world) as app:
        address = app.addresses["http"]
        before = await asyncio.to_thread(shown_by, address)
        world.write(world.certificate, b"broken")
        assert await asyncio.to_thread(shown_by, address) == before
        renewed = world.renew()
        assert await asyncio.to_thread(shown_by, address) == renewed


async def test_behind_an_ingress_the_set_is_plaintext_and_grpc_is_not(world: World) -> None:
    world.document["server"]["http_plaintext"] = True
    async with served(world) as app, aiohttp.ClientSession() as session:
        async with session.get(f"http://{app.addresses['http']}/payments/.well-known/jwks.json") as answer:
            assert answer.status == 200
        async with grpc.aio.insecure_channel(app.addresses["grpc"]) as channel:
            refused = await failure(SigningServiceStub(channel).SignJwt(ORDER, timeout=5))
            assert refused.code == "UNAVAILABLE"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.parametrize("listener", ["grpc", "http"])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_old_versions_of_tls_are_refused(world: World, listener: str, version: ssl.TLSVersion) -> None:
    async with served(world) as app:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        host, _, port = app.addresses[listener].rpartition(":")

        def handshake() -> None:
            with socket.create_connection((host, int(port)), timeout=5) as plain, context.wrap_socket(plain):
                pass

        with pytest.raises(OSError):  # an ssl.SSLError, or the connection is cut
            await asyncio.to_thread(handshake)


@pytest.fixture
def over_a_socket(tmp_path: Path, emulator: AwsEmulator) -> dict[str, Any]:
    config = document(tmp_path, emulator.endpoint)
    config["server"] = {
        "grpc": f"unix:{tmp_path}/grpc.sock",
        "http": "127.0.0.1:0",
        "http_plaintext": True,
        "admin": "127.0.0.1:0",
    }
    config["grants"][0]["caller"] = f"unix:uid={os.geteuid()}"
    return config


@contextmanager
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


async def test_a_unix_sockets_mode_is_the_permission_and_its_callers_are_users(
    tmp_path: Path, over_a_socket: dict[str, Any]
) -> None:
    with open_umask():
        async with running(over_a_socket) as service:
            path = tmp_path / "grpc.sock"
            assert service.app.addresses["grpc"] == f"unix:{path}"
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            assert (await service.sign()).token
    (record,) = audit_records(over_a_socket, "sign")
    assert record["caller"] == f"unix:uid={os.geteuid()}"


async def test_a_socket_that_a_crash_left_behind_is_replaced(tmp_path: Path, over_a_socket: dict[str, Any]) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(tmp_path / "grpc.sock"))
    async with running(over_a_socket) as service:
        assert (await service.sign()).token
