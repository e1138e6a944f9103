from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from providers.azure.azure_support import SECONDS, make, opened
from sealwright.errors import ConfigurationError, ProviderNotInstalledError, ProviderUnsupportedError
from sealwright.kms.registry import load_factory
from sealwright_providers.azure import FACTORY
from sealwright_providers.azure.settings import AzureSettings
from sealwright_testing.emulators.azure import AzureEmulator

VAULT = "https://sealwright.vault.azure.net"


def problems(**fields: Any) -> list[tuple[str, str]]:
    """Return the fields that are refused, and why."""
    try:
        AzureSettings.model_validate({"vault_url": VAULT} | fields)
    except ValidationError as error:
        return [(str(e["loc"][0]), e["msg"]) for e in error.errors()]
    return []


def test_the_kind_is_built_in() -> None:
    assert load_factory("azure") is FACTORY


@pytest.mark.parametrize(
    ("url", "host", "managed_hsm", "authority"),
    [
        (VAULT, "sealwright.vault.azure.net", False, "https://login.microsoftonline.com"),
        (VAULT + "/", "sealwright.vault.azure.net", False, "https://login.microsoftonline.com"),
        ("https://A.VAULT.azure.net", "a.vault.azure.net", False, "https://login.microsoftonline.com"),
        ("https://a.managedhsm.azure.net", "a.managedhsm.azure.net", True, "https://login.microsoftonline.com"),
        ("https://a.vault.azure.cn", "a.vault.azure.cn", False, "https://login.chinacloudapi.cn"),
        ("https://a.managedhsm.azure.cn", "a.managedhsm.azure.cn", True, "https://login.chinacloudapi.cn"),
        ("https://a.vault.usgovcloudapi.net", "a.vault.usgovcloudapi.net", False, "https://login.microsoftonline.us"),
        ("https://localhost:8443", "localhost:8443", False, "https://login.microsoftonline.com"),
    ],
)
def test_the_vaults_name_tells_its_cloud(url: str, host: str, managed_hsm: bool, authority: str) -> None:  # noqa: FBT001 - a case
    settings = AzureSettings(vault_url=url)
    assert (settings.host, settings.is_managed_hsm, settings.authority_url) == (host, managed_hsm, authority)
    assert AzureSettings(vault_url=url, managed_hsm=True, authority="https://sts.example/").is_managed_hsm
    assert AzureSettings(vault_url=url, authority="https://sts.example/").authority_url == "https://sts.example"


@pytest.mark.parametrize(
    "url",
    [
        "http://a.vault.azure.net",
        VAULT + "/keys/x",
        VAULT + "?x=y",
        "https://u@a.vault.azure.net",
        "https://",
        "x",
        VAULT + ":0",
    ],
)
def test_the_vault_is_an_https_host(url: str) -> None:
    assert [name for name, _ in problems(vault_url=url)] == ["vault_url"]
    assert [name for name, _ in problems(authority=url)] == ["authority"]


def test_the_challenge_is_not_verified_on_loopback_only() -> None:
    assert problems(verify_challenge_resource=False) == [
        ("verify_challenge_resource", "Value error, may be false only for a vault on the loopback interface")
    ]
    for host in ("localhost", "127.0.0.1:8443", "[::1]", "a.vault.localhost:1"):
        assert problems(vault_url=f"https://{host}", verify_challenge_resource=False) == []
    for host in ("10.0.0.1", "localhost.example.com"):
        assert problems(vault_url=f"https://{host}", verify_challenge_resource=False)


def test_credentials_are_complete() -> None:
    ids = {"tenant_id": "t", "client_id": "c"}
    ((name, text),) = problems(credential="client_secret")
    assert name == "client_certificate_file"
    assert all(field in text for field in ("tenant_id", "client_id", "client_secret_file"))
    assert problems(credential="client_secret", **ids, client_secret_file="/s") == []
    assert problems(credential="client_certificate", **ids, client_certificate_file="/s") == []
    assert problems(credential="client_certificate", **ids, client_secret_file="/s")
    assert problems(credential="managed_identity", client_secret_file="/s")
    for kind in ("default", "managed_identity", "workload_identity", "cli"):
        assert problems(credential=kind) == []
    assert problems(credential="password")
    assert problems(tenant_id="a/b")
    assert problems(api_version="latest")


async def test_a_ca_file_that_cannot_be_used_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("not a certificate")
    for path in (tmp_path / "ca", tmp_path / "none"):
        with pytest.raises(ConfigurationError, match="ca_file"):
            await FACTORY.open(AzureSettings(vault_url=VAULT, ca_file=str(path)))


async def test_without_the_sdk_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sealwright_providers.azure.connection", None)
    with pytest.raises(ProviderNotInstalledError, match=r"sealwright\[azure\]"):
        await FACTORY.open(AzureSettings(vault_url=VAULT))


def test_the_settings_are_importable_without_the_sdk() -> None:
    code = (
        "import sys, sealwright_providers.azure as a; a.FACTORY.settings; "
        "sys.exit(any(m.partition('.')[0] in {'azure', 'msal', 'aiohttp'} for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0  # noqa: S603 - our own code


async def test_the_sdk_logs_nothing_since_it_would_log_urls() -> None:
    provider = await FACTORY.open(AzureSettings(vault_url=VAULT))
    await provider.aclose()
    assert not logging.getLogger("azure.core.pipeline.policies.http_logging_policy").isEnabledFor(logging.ERROR)
    assert not logging.getLogger("azure.identity").isEnabledFor(logging.ERROR)


async def test_the_version_of_the_api_is_that_of_the_settings(tmp_path: Path) -> None:
    async with AzureEmulator() as vault:
        async with opened(vault, tmp_path, api_version="7.4") as older:
            made = await make(older)
            assert await older.describe(made.uri, timeout=SECONDS) == made
        async with opened(vault, tmp_path, api_version="7.99") as newer:
            for _ in range(2):  # Through the SDK and past it.
                with pytest.raises(ProviderUnsupportedError):
                    await newer.check(timeout=SECONDS)
