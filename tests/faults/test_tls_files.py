"""Kind F: certificate files that are broken, expired, or other than they seem."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from sealwright.access.identity import caller_of_certificate
from sealwright.errors import CallerUnauthenticatedError, ConfigurationError
from sealwright.server.http2.connection import Connection
from sealwright.server.rpc.heads import TOO_LONG, read_head
from sealwright.server.tls import TlsFiles, grpc_context, https_context
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document
from support.service import running
from support.tls_files import COMMENT, DAY, NOW, Files, key_pem, name, p256, pem


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def in_place_of(which: str, make: Callable[[Path], None]) -> Callable[[Files], None]:
    def spoil(files: Files) -> None:
        files.paths[which].unlink()
        make(files.paths[which])

    return spoil


def as_text(which: str, content: bytes) -> Callable[[Files], None]:
    return lambda files: files.write(which, content)


SHORT = 1024
NOBODY = 65534
BROKEN_BLOCK = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"

UNUSABLE: dict[str, tuple[str, str, Callable[[Files], None]]] = {
    "no such certificate": ("certificate", "No such file", lambda f: f.paths["certificate"].unlink()),
    "no such key": ("private_key", "No such file", lambda f: f.paths["private_key"].unlink()),
    "no such client CA": ("client_ca", "No such file", lambda f: f.paths["client_ca"].unlink()),
    "empty certificate": ("certificate", "no certificate", as_text("certificate", b"")),
    "empty key": ("private_key", "no private key", as_text("private_key", b"")),
    "empty client CA": ("client_ca", "no certificate", as_text("client_ca", b"")),
    "client CA of comments": ("client_ca", "no certificate", as_text("client_ca", COMMENT)),
    "certificate not PEM": ("certificate", "no certificate", lambda f: f.write("certificate", b"\x30\x82" * 99)),
    "key not PEM": ("private_key", "no private key", as_text("private_key", b"\x30\x82" * 99)),
    "client CA not PEM": ("client_ca", "no certificate", as_text("client_ca", b"\x30\x82" * 99)),
    "broken certificate": ("certificate", "number 1 cannot be read", as_text("certificate", BROKEN_BLOCK)),
    "second client CA broken": (
        "client_ca",
        "number 2 cannot be read",
        lambda f: f.write("client_ca", pem(f.root) + BROKEN_BLOCK),
    ),
    "cut certificate": ("certificate", "no certificate", lambda f: f.write("certificate", pem(f.leaf)[:-30])),
    "broken key": (
        "private_key",
        "cannot use this",
        as_text("private_key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ),
    "key of another certificate": (
        "private_key",
        "not the key of the first",
        lambda f: f.write("private_key", key_pem(p256())),
    ),
    "chain in the wrong order": (
        "private_key",
        "not the key of the first certificate",
        lambda f: f.write("certificate", pem(f.root) + pem(f.leaf)),
    ),
    "only a CA": ("private_key", "not the key of the first", lambda f: f.write("certificate", pem(f.root))),
    "files exchanged": ("certificate", "no certificate", lambda f: f.write("certificate", key_pem(f.key))),
    "encrypted key": ("private_key", "pass phrase", lambda f: f.write("private_key", key_pem(f.key, b"secret"))),
    "encrypted key, traditional": (
        "private_key",
        "pass phrase",
        lambda f: f.write("private_key", key_pem(f.key, b"secret", traditional=True)),
    ),
    "certificate is a directory": ("certificate", "not a file", in_place_of("certificate", lambda p: p.mkdir())),
    "key is a directory": ("private_key", "not a file", in_place_of("private_key", lambda p: p.mkdir())),
    "client CA is a directory": ("client_ca", "not a file", in_place_of("client_ca", lambda p: p.mkdir())),
    "key is a pipe": ("private_key", "not a file", in_place_of("private_key", os.mkfifo)),
    "P-521": ("certificate", "gRPC", lambda f: void(f.renew(ec.generate_private_key(ec.SECP521R1())))),
    "secp256k1": ("certificate", "gRPC", lambda f: void(f.renew(ec.generate_private_key(ec.SECP256K1())))),
    "Ed25519": ("certificate", "gRPC", lambda f: void(f.renew(ed25519.Ed25519PrivateKey.generate()))),
    "RSA of 1024 bits": ("certificate", "2048 bits", lambda f: void(f.renew(rsa.generate_private_key(65537, SHORT)))),
}


def void(_: object) -> None:
    """Drop a result."""


@pytest.fixture(params=list(UNUSABLE), ids=lambda n: n.replace(" ", "_"))
def damage(request: pytest.FixtureRequest) -> tuple[str, str, Callable[[Files], None]]:
    return UNUSABLE[request.param]


def test_f34_f36_files_that_cannot_be_used_are_refused_at_start_and_the_error_names_file_and_reason(
    files: Files, damage: tuple[str, str, Callable[[Files], None]]
) -> None:
    which, reason, spoil = damage
    spoil(files)
    with pytest.raises(ConfigurationError, match=reason) as refused:
        files.opened()
    assert str(refused.value).startswith(f"server.tls.{which}: {files.paths[which]}: ")


def test_f34_f36_files_that_cannot_be_used_leave_the_old_ones_in_use_until_they_are_right(
    files: Files, damage: tuple[str, str, Callable[[Files], None]], caplog: pytest.LogCaptureFixture
) -> None:
    which, reason, spoil = damage
    opened = files.opened()
    spoil(files)
    assert not opened.renewed()
    assert opened.used.chain == (files.leaf,)
    if files.paths[which].exists():
        assert reason in caplog.text
    if files.paths[which].is_dir():
        files.paths[which].rmdir()
    leaf = files.renew(p256())
    files.write("client_ca", pem(files.root))
    assert opened.renewed()
    assert opened.used.chain == (leaf,)
    assert not opened.renewed()


@contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Give up root's power to read every file for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("which", ["certificate", "private_key", "client_ca"])
def test_f36_a_file_that_may_not_be_read_is_refused(which: str) -> None:
    with tempfile.TemporaryDirectory() as directory:  # pytest's own directories are closed to other users
        Path(directory).chmod(0o755)
        files = Files(Path(directory))
        for path in files.paths.values():
            path.chmod(0o644)
        files.paths[which].chmod(0)
        refusal = rf"server\.tls\.{which}: .*: Permission denied"
        with as_ordinary_user(), pytest.raises(ConfigurationError, match=refusal):
            files.opened()


def crlf(content: bytes) -> bytes:
    return content.replace(b"\n", b"\r\n")


@pytest.mark.parametrize(
    "change",
    [
        lambda pem: COMMENT + pem + COMMENT,
        lambda pem: b"\xff\xfe\x00 Latin-1: \xe9\n" + pem,
        crlf,
        lambda pem: crlf(COMMENT + pem),
        lambda pem: b"Subject: CN=x\nIssuer: CN=y\n\n" + pem + b"\n\n",
        lambda pem: pem.rstrip(b"\n"),
    ],
    ids=["not_ASCII", "not_UTF-8", "CRLF", "CRLF_not_ASCII", "text_of_openssl", "no_last_newline"],
)
async def test_f33_text_outside_the_boundaries_is_ignored(files: Files, change: Callable[[bytes], bytes]) -> None:
    for which, path in files.paths.items():
        files.write(which, change(path.read_bytes()))
    opened = files.opened()
    grpc_context(opened)()
    https_context(opened)
    assert opened.used.chain == (files.leaf,)
    assert opened.used.roots == (files.root,)
    for content in (opened.used.chain_pem, opened.used.roots_pem, opened.used.key):
        assert content.isascii()
        assert content.startswith(b"-----BEGIN ")
    assert await call(opened, files) == "reached"


async def call(opened: TlsFiles, files: Files) -> str:
    """Return whether a caller with a certificate reaches a gRPC server with these files."""
    loop = asyncio.get_running_loop()
    connection, lost = Connection(read_head, TOO_LONG, lambda _: None), asyncio.Event()
    connection.when_lost = lost.set
    server = await loop.create_server(lambda: connection, "127.0.0.1", 0, ssl=grpc_context(opened)())
    port = server.sockets[0].getsockname()[1]
    key = p256()
    credentials = grpc.ssl_channel_credentials(pem(files.root), key_pem(key), pem(files.certificate(key)))
    try:
        async with grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
            await asyncio.wait_for(channel.channel_ready(), 5)
        await asyncio.wait_for(lost.wait(), 5)
    finally:
        server.close()
    return "reached"


async def test_f36_every_kind_of_key_that_is_accepted_can_be_used_by_grpc(files: Files) -> None:
    for key in (p256(), ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)):
        files.renew(key)
        assert await call(files.opened(), files) == "reached"


async def test_f33_a_key_with_its_curve_before_it_and_a_certificate_beside_it_are_accepted(files: Files) -> None:
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    together = pem(files.leaf) + parameters + key_pem(files.key, traditional=True)
    for which in ("certificate", "private_key"):
        files.write(which, together)
    assert await call(files.opened(), files) == "reached"


def test_f36_https_alone_accepts_what_openssl_can_use_and_does_not_need_the_callers_authorities(files: Files) -> None:
    files.renew(ed25519.Ed25519PrivateKey.generate())
    files.write("client_ca", b"")
    https_context(files.opened(for_grpc=False))


@pytest.mark.parametrize(
    ("dates", "warning"),
    [
        ({"start": NOW - 800 * DAY, "end": NOW - DAY}, "expired at"),
        ({"start": NOW + DAY}, "not valid before"),
        ({"start": NOW - 300 * DAY, "end": NOW + 29 * DAY}, "expires at"),
        ({"start": NOW - 2 * DAY, "end": NOW + DAY / 2}, "expires at"),
        ({"start": NOW - 300 * DAY, "end": NOW + 31 * DAY}, None),
        ({"start": NOW - DAY / 24, "end": NOW + DAY}, None),
    ],
    ids=["expired", "not yet valid", "29 days", "12 hours of 60", "31 days", "a fresh one of a day"],
)
def test_f36_a_start_warns_of_a_certificate_that_is_or_soon_will_be_out_of_its_dates(
    files: Files, dates: dict[str, datetime], warning: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    files.renew(p256(), **dates)
    files.opened()
    assert [r.levelname for r in caplog.records] == (["WARNING"] if warning else [])
    assert (warning or "") in caplog.text


def test_f36_a_start_warns_if_every_authority_of_callers_has_expired(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    old = pem(files.certificate(files.authority, "authority", start=NOW - 9 * DAY, end=NOW - DAY, authority=True))
    files.write("client_ca", old + pem(files.root))
    files.opened()
    assert caplog.text == ""
    files.write("client_ca", old)
    files.opened()
    assert "every caller is refused" in caplog.text


def test_f36_a_renewal_to_a_certificate_out_of_its_dates_waits_for_them(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now = NOW
    opened = TlsFiles(files.settings, "gRPC", lambda: now, for_grpc=True)
    files.renew(p256(), start=NOW - 9 * DAY, end=NOW - DAY)
    assert not opened.renewed()
    assert opened.used.chain == (files.leaf,)
    early = files.renew(p256(), start=NOW + DAY)
    assert not opened.renewed()
    assert not opened.renewed()
    assert opened.used.chain == (files.leaf,)
    assert caplog.text.count("still uses the old ones") == 2
    now = NOW + DAY
    assert opened.renewed(), "although the files have not changed again"
    assert opened.used.chain == (early,)


def test_f36_the_warning_is_repeated_once_a_day(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    now = NOW
    files.renew(p256(), start=NOW - 99 * DAY, end=NOW + 40 * DAY)
    opened = TlsFiles(files.settings, "gRPC", lambda: now, for_grpc=True)
    for hour in range(0, 24 * 13, 6):
        now = NOW + timedelta(hours=hour)
        assert not opened.renewed()
    assert len(caplog.records) == 2


def test_f34_a_key_with_a_pass_phrase_ends_the_process_and_asks_nobody(files: Files) -> None:
    """On a terminal of its own, where OpenSSL would ask."""
    files.write("private_key", key_pem(files.key, b"secret"))
    code = (
        "import ssl, sys\n"
        "from sealwright.server.settings import TlsSettings\n"
        "from sealwright.server.certificates import https_context, read\n"
        f"settings = TlsSettings(**{files.settings.model_dump()!r})\n"
        "for check in (lambda: read(settings, for_grpc=True), lambda: https_context(settings)):\n"
        "    try:\n"
        "        check()\n"
        "    except Exception as e:\n"
        "        print(type(e).__name__)\n"
    )
    master, terminal = os.openpty()
    with suppress(OSError):
        done = subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-c", f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0)\n{code}"],
            stdin=terminal,
            capture_output=True,
            text=True,
            timeout=20,
            start_new_session=True,
            check=True,
        )
    os.close(terminal)
    os.close(master)
    assert done.stdout.split() == ["ConfigurationError"] * 2


@pytest.mark.parametrize("names", [["billing.example.com"], ["spiffe://example.org/ns/a/sa/b"]], ids=["DNS", "SPIFFE"])
@pytest.mark.parametrize("mark", ["ca", "key_cert_sign", "crl_sign"])
def test_f37_a_certificate_that_may_sign_others_is_not_a_caller(names: list[str], mark: str) -> None:
    key = p256()
    usages = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    builder = (
        x509.CertificateBuilder()
        .issuer_name(name("authority"))
        .subject_name(name("caller"))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.BasicConstraints(ca=mark == "ca", path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.UniformResourceIdentifier(n) if ":" in n else x509.DNSName(n) for n in names]
            ),
            critical=False,
        )
        .add_extension(
            x509.KeyUsage(
                **dict.fromkeys(usages, False),
                key_cert_sign=mark == "key_cert_sign",
                crl_sign=mark == "crl_sign",
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    )
    with pytest.raises(CallerUnauthenticatedError, match="must not be a CA"):
        caller_of_certificate(pem(builder.sign(key, hashes.SHA256())))


async def test_f36_the_metric_says_when_the_certificate_expires(files: Files, tmp_path: Path) -> None:
    async with AwsEmulator() as emulator:
        config = document(tmp_path, emulator.endpoint)
        config["server"] |= {"insecure_local": False, "tls": files.settings.model_dump()}
        async with running(config, wait=False) as service:
            _, _, body = await service.get("/metrics", at="admin")
            lines = [
                line for line in body.decode().splitlines() if line.startswith("sealwright_tls_certificate_expiry")
            ]
            values = {line.split()[0].partition("{")[2]: float(line.split()[1]) for line in lines}
            assert set(values) == {'listener="grpc"}', 'listener="http"}'}
            assert all(abs(v - 365 * 86400) < 3600 for v in values.values())
