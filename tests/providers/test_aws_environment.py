from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import botocore.session
import pytest
from pydantic import ValidationError

from providers.aws_provider_support import ES256, SECONDS, make, opened, settings
from sealwright.errors import ConfigurationError, ProviderNotInstalledError
from sealwright_providers.aws import FACTORY
from sealwright_providers.aws.boto3_transport import Boto3Transport
from sealwright_providers.aws.endpoint import endpoint_of
from sealwright_providers.aws.http_transport import HttpTransport, _host
from sealwright_providers.aws.settings import AwsSettings
from sealwright_testing.emulators.aws import AwsEmulator

NOWHERE = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_ENDPOINT_URL": NOWHERE, "AWS_ENDPOINT_URL_KMS": NOWHERE},
        {"HTTP_PROXY": NOWHERE, "http_proxy": NOWHERE, "HTTPS_PROXY": NOWHERE, "ALL_PROXY": NOWHERE},
        {"AWS_USE_FIPS_ENDPOINT": "true", "AWS_USE_DUALSTACK_ENDPOINT": "true"},
        {"AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"},
    ],
)
async def test_the_environment_does_not_say_where_kms_is(
    emulator: AwsEmulator, transport: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    async with opened(emulator.endpoint, transport=transport) as provider:
        key = await make(provider)
        assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "kms.eu-west-1.amazonaws.com"),
        ("cn-north-1", "kms.cn-north-1.amazonaws.com.cn"),
        ("us-gov-west-1", "kms.us-gov-west-1.amazonaws.com"),
        ("eusc-de-east-1", "kms.eusc-de-east-1.amazonaws.eu"),
    ],
)
async def test_a_region_has_its_own_endpoint_whatever_the_environment_says(
    monkeypatch: pytest.MonkeyPatch, region: str, host: str
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.setenv(name, NOWHERE)
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    http = await HttpTransport.open(AwsSettings(region=region))
    boto3 = Boto3Transport(AwsSettings(region=region))
    try:
        assert http.endpoint == boto3._client.meta.endpoint_url == f"https://{host}"
    finally:
        await http.aclose()
        await boto3.aclose()


async def test_a_region_that_the_sdk_does_not_know_is_a_configuration_error(transport: str) -> None:
    with pytest.raises(ConfigurationError, match="endpoint_url"):
        await FACTORY.open(AwsSettings(region="xx-nowhere-1", transport=transport))  # type: ignore[arg-type]


async def test_a_profile_that_does_not_exist_is_a_configuration_error(
    monkeypatch: pytest.MonkeyPatch, emulator: AwsEmulator
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(ConfigurationError, match="ProfileNotFound"):
        await FACTORY.open(settings(emulator.endpoint, transport="boto3"))


def test_the_sdk_is_not_imported_before_a_provider_is_opened() -> None:
    code = (
        "import sys, sealwright_providers.aws as aws;"
        "aws.FACTORY.settings(region='eu-west-1');"
        "sys.exit(str([m for m in ('boto3', 'botocore', 'aiohttp') if m in sys.modules] or ''))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)  # noqa: S603
    assert (ended.stderr.strip(), ended.returncode) == ("", 0) or ended.stderr.strip() == "", ended.stderr


async def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [m for m in sys.modules if m.partition(".")[0] == "botocore"]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("boto3_transport", "http_transport", "credentials", "endpoint"):
        monkeypatch.delitem(sys.modules, f"sealwright_providers.aws.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "botocore", None)
    with pytest.raises(ProviderNotInstalledError, match=r"sealwright\[aws\]"):
        await FACTORY.open(settings(None))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "kms.example",
        "ftp://kms.example",
        "https://",
        "https://kms.example/path",
        "https://kms.example?",
        "https://kms.example?a=b",
        "https://kms.example#f",
        "https://user:secret@kms.example",
        "https://kms.example:99999",
        "https://kms.example:0",
        "https://kms.example:x",
        "https://kms.example\n",
    ],
)
def test_an_endpoint_is_scheme_host_and_port_alone(value: str) -> None:
    with pytest.raises(ValidationError):
        settings(value)


@pytest.mark.parametrize(
    ("value", "host"),
    [
        ("https://kms.example/", "kms.example"),
        ("https://kms.example:443", "kms.example"),
        ("http://kms.example:443", "kms.example:443"),
        ("http://[::1]:80", "[::1]"),
        ("http://[::1]:4566", "[::1]:4566"),
        ("http://127.0.0.1:4566/", "127.0.0.1:4566"),
    ],
)
def test_the_host_header_leaves_out_the_schemes_own_port(value: str, host: str) -> None:
    endpoint = settings(value, insecure_endpoint=True).endpoint_url
    assert endpoint == value.rstrip("/")
    assert _host(endpoint) == host


EXPOSED = [
    "http://kms.corp.example",
    "http://kms.corp.example:80/",
    "HTTP://kms.corp.example",
    "http://10.0.0.1:4566",
    "http://169.254.169.254",
    "http://0.0.0.0:4566",
    "http://[::]:4566",
    "http://[fd00::1]",
    "http://127.0.0.1.corp.example",
    "http://localhost.corp.example",
    "http://2130706433",
]


@pytest.mark.parametrize("value", EXPOSED)
def test_f38_a_plaintext_endpoint_elsewhere_must_be_meant(value: str) -> None:
    for more in ({}, {"insecure_endpoint": False}):
        with pytest.raises(ValidationError, match="endpoint_url"):
            settings(value, **more)
    if value.startswith("http:"):
        assert settings(value, insecure_endpoint=True).endpoint_url == value.rstrip("/")


@pytest.mark.parametrize(
    "value",
    [
        None,
        "https://kms.corp.example",
        "http://127.0.0.1:4566",
        "http://127.9.9.9",
        "http://[::1]:80",
        "http://localhost:1",
    ],
)
def test_f38_other_endpoints_need_no_setting_and_leave_no_warning(
    value: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint_of(botocore.session.Session(), settings(value))
    assert caplog.text == ""


@pytest.mark.parametrize("transport", ["http", "boto3"])
async def test_f38_a_plaintext_endpoint_is_warned_of_at_each_start(
    transport: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    meant = settings("http://kms.corp.example", insecure_endpoint=True, transport=transport)
    for starts in (1, 2):
        await (await FACTORY.open(meant)).aclose()
        warned = [r for r in caplog.records if r.levelname == "WARNING" and "plaintext" in r.message]
        assert len(warned) == starts
        assert "http://kms.corp.example" in warned[-1].message


@pytest.mark.parametrize("region", ["", "eu", "EU-WEST-1", "eu-west-1a", "eu-west-1\n", "eu-west-٣", "localhost"])
def test_a_region_looks_like_one(region: str) -> None:
    with pytest.raises(ValidationError):
        AwsSettings(region=region)


def test_every_region_that_the_sdk_knows_is_accepted() -> None:
    session = botocore.session.Session()
    regions = [r for p in session.get_available_partitions() for r in session.get_available_regions("kms", p)]
    assert len(regions) > 30
    for region in regions:
        # Some entries of the SDK are FIPS pseudo-regions.
        if not region.endswith("-fips"):
            assert AwsSettings(region=region).region == region


def test_the_factory_is_found_by_its_kind() -> None:
    module = importlib.import_module("sealwright_providers.aws")
    assert module.FACTORY.kind == "aws"
    assert Path(str(module.__file__)).name == "__init__.py"
