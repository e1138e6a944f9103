"""All calls of an `aws` provider go where its settings say: KMS and STS, on both transports, whatever the environment says."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web
from pydantic import ValidationError

from providers.aws_provider_support import ACCOUNT, ES256, REGION, SECONDS, make, opened
from sealwright.errors import ConfigurationError, ProviderError
from sealwright_providers.aws import FACTORY
from sealwright_providers.aws.endpoint import Session
from sealwright_providers.aws.settings import AwsSettings
from sealwright_testing.emulators.aws import AwsEmulator
from support.tls_files import Files

NOWHERE = "http://127.0.0.1:9"
_PLACES = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_KMS",
    "AWS_ENDPOINT_URL_STS",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "ALL_PROXY",
)
ENVIRONMENT = dict.fromkeys(_PLACES, NOWHERE) | {
    "AWS_REGION": "us-east-2",
    "AWS_DEFAULT_REGION": "us-east-2",
    "AWS_CA_BUNDLE": "/nowhere/ca.pem",
}
IDENTITY = f"""<GetCallerIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><GetCallerIdentityResult>
<Arn>arn:aws:iam::{ACCOUNT}:user/a</Arn><UserId>AIDA</UserId><Account>{ACCOUNT}</Account></GetCallerIdentityResult>
<ResponseMetadata><RequestId>r</RequestId></ResponseMetadata></GetCallerIdentityResponse>"""
ASSUMED = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>test</AccessKeyId><SecretAccessKey>test</SecretAccessKey>
<SessionToken>token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
<AssumedRoleUser><Arn>arn:aws:sts::111122223333:assumed-role/r/s</Arn><AssumedRoleId>A:s</AssumedRoleId></AssumedRoleUser>
</AssumeRoleWithWebIdentityResult><ResponseMetadata><RequestId>r</RequestId></ResponseMetadata>
</AssumeRoleWithWebIdentityResponse>"""


@pytest.fixture(params=["http", "boto3"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@dataclass
class Sts:
    """A server that answers as AWS STS does."""

    url: str = ""
    actions: list[str] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        action = str((await request.post()).get("Action"))
        self.actions.append(action)
        return web.Response(text=IDENTITY if action == "GetCallerIdentity" else ASSUMED, content_type="text/xml")


@pytest.fixture
async def sts() -> AsyncIterator[Sts]:
    sts = Sts()
    runner = web.ServerRunner(web.Server(sts.handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sts.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield sts
    await runner.cleanup()


@dataclass
class Relay:
    """Passes connections on: a proxy, or a server that ends TLS in front of another."""

    url: str = ""
    wanted: list[str] = field(default_factory=list)

    async def proxy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b" ", 2)
        place = urlsplit(target.decode()).netloc if method != b"CONNECT" else target.decode()
        self.wanted.append(place)
        host, _, port = place.rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        else:
            back.write(head)
        await _both(reader, writer, there, back)

    async def pass_to(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.wanted.append(target)
        parts = urlsplit(target)
        there, back = await asyncio.open_connection(parts.hostname, parts.port)
        await _both(reader, writer, there, back)


async def _both(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, there: asyncio.StreamReader, back: asyncio.StreamWriter
) -> None:
    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    await asyncio.gather(pump(reader, back), pump(there, writer))


@contextlib.asynccontextmanager
async def relaying(handle: Any, **more: Any) -> AsyncIterator[int]:
    server = await asyncio.start_server(handle, "127.0.0.1", 0, **more)
    yield server.sockets[0].getsockname()[1]
    server.close()


@pytest.mark.usefixtures("hostile")
async def test_f39_kms_and_sts_are_where_the_settings_say(emulator: AwsEmulator, transport: str, sts: Sts) -> None:
    async with opened(emulator.endpoint, transport=transport, sts_endpoint_url=sts.url) as provider:
        key = await make(provider)
        assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value
        assert await provider._transport.account(timeout=SECONDS) == ACCOUNT
    assert "GetCallerIdentity" in sts.actions


@pytest.mark.usefixtures("hostile")
async def test_f39_the_credential_chain_asks_the_same_sts(
    emulator: AwsEmulator, transport: str, sts: Sts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "token").write_text("a.b.c")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", f"arn:aws:iam::{ACCOUNT}:role/r")
    async with opened(emulator.endpoint, transport=transport, sts_endpoint_url=sts.url) as provider:
        with contextlib.suppress(ProviderError):  # the emulator may not know these credentials
            await make(provider)
    assert "AssumeRoleWithWebIdentity" in sts.actions


@pytest.mark.usefixtures("hostile")
async def test_f39_the_proxy_of_the_settings_is_for_all_calls(emulator: AwsEmulator, transport: str, sts: Sts) -> None:
    relay = Relay()
    async with relaying(relay.proxy) as port:
        more = {"transport": transport, "sts_endpoint_url": sts.url, "proxy": f"http://127.0.0.1:{port}"}
        async with opened(emulator.endpoint, **more) as provider:
            key = await make(provider)
            assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value
            assert await provider._transport.account(timeout=SECONDS) == ACCOUNT
    assert set(relay.wanted) == {urlsplit(emulator.endpoint).netloc, urlsplit(sts.url).netloc}


@pytest.mark.usefixtures("hostile")
async def test_f39_a_private_ca_is_for_all_calls(
    emulator: AwsEmulator, transport: str, sts: Sts, tmp_path: Path
) -> None:
    files, relay = Files(tmp_path), Relay()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.settings.certificate, files.settings.private_key)
    async with (
        relaying(lambda r, w: relay.pass_to(emulator.endpoint, r, w), ssl=context) as kms_port,
        relaying(lambda r, w: relay.pass_to(sts.url, r, w), ssl=context) as sts_port,
    ):
        more = {"transport": transport, "sts_endpoint_url": f"https://localhost:{sts_port}"}
        url = f"https://localhost:{kms_port}"
        async with opened(url, ca_file=files.settings.client_ca, **more) as provider:
            key = await make(provider)
            assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value
            assert await provider._transport.account(timeout=SECONDS) == ACCOUNT
        relay.wanted.clear()
        async with opened(url, **more) as provider:
            with pytest.raises(ProviderError):
                await make(provider)
            with pytest.raises(ProviderError):
                await provider._transport.account(timeout=SECONDS)
        assert relay.wanted == []


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    ("region", "host"),
    [("eu-west-1", "sts.eu-west-1.amazonaws.com"), ("cn-north-1", "sts.cn-north-1.amazonaws.com.cn")],
)
def test_f39_without_a_setting_sts_is_that_of_the_region(region: str, host: str) -> None:
    session = Session(AwsSettings(region=region))
    client = session.create_client("sts", aws_access_key_id="a", aws_secret_access_key="b")
    assert client.meta.endpoint_url == f"https://{host}"
    client.close()


@pytest.mark.parametrize(
    "content", [None, b"", b"nothing", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
async def test_f39_a_ca_file_that_cannot_be_used_is_a_configuration_error(
    tmp_path: Path, transport: str, content: bytes | None
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match="ca_file"):
        await FACTORY.open(AwsSettings(region=REGION, ca_file=str(file), transport=transport))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"proxy": "https://proxy.example:3128"},
        {"proxy": "http://proxy.example"},
        {"proxy": "http://user:secret@proxy.example:3128"},
        {"proxy": "socks5://proxy.example:1080"},
        {"sts_endpoint_url": "http://sts.corp.example"},
        {"sts_endpoint_url": "sts.corp.example"},
        {"ca_file": ""},
    ],
)
def test_f39_settings_that_cannot_work_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        AwsSettings(region=REGION, **wrong)  # type: ignore[arg-type]
    allowed = AwsSettings(region=REGION, sts_endpoint_url="http://sts.corp.example", insecure_endpoint=True)
    assert allowed.sts_url == "http://sts.corp.example"
