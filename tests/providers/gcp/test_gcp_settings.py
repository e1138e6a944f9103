from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sealwright.errors import ConfigurationError
from sealwright_providers.gcp import FACTORY
from sealwright_providers.gcp.settings import GcpSettings

RING = {"project": "my-project", "location": "europe-west1", "key_ring": "tokens"}


def settings(**more: Any) -> GcpSettings:
    return GcpSettings(**{**RING, **more})


def test_the_defaults_are_googles_own_endpoint_and_default_credentials() -> None:
    made = settings()
    assert (made.endpoint, made.insecure_endpoint) == ("cloudkms.googleapis.com:443", False)
    assert (made.credentials_file, made.ca_file) == (None, None)


@pytest.mark.parametrize("endpoint", ["kms.p.googleapis.com:443", "10.0.0.1:443", "[::1]:9000", "localhost:1"])
def test_endpoints(endpoint: str) -> None:
    assert settings(endpoint=endpoint).endpoint == endpoint


@pytest.mark.parametrize(
    "endpoint",
    [
        "https://cloudkms.googleapis.com",
        "cloudkms.googleapis.com",
        "host:0",
        "host:65536",
        "a b:1",
        "u@h:1",
        "dns:///h:1",
        "",
    ],
)
def test_endpoints_that_are_not_host_and_port(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="host:port"):
        settings(endpoint=endpoint)


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9000", "localhost:9000", "[::1]:9000", "127.9.9.9:1"])
def test_plaintext_is_permitted_on_loopback(endpoint: str) -> None:
    assert settings(endpoint=endpoint, insecure_endpoint=True).insecure_endpoint


@pytest.mark.parametrize(
    "endpoint", ["10.0.0.1:9000", "localhost.example.com:1", "kms:9000", "cloudkms.googleapis.com:443"]
)
def test_plaintext_is_refused_elsewhere(endpoint: str) -> None:
    with pytest.raises(ValidationError, match="loopback"):
        settings(endpoint=endpoint, insecure_endpoint=True)


@pytest.mark.parametrize("name", ["credentials_file", "ca_file"])
def test_plaintext_excludes_credentials(name: str) -> None:
    with pytest.raises(ValidationError, match="never sent in plaintext"):
        settings(endpoint="127.0.0.1:1", insecure_endpoint=True, **{name: "/f"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("project", "My Project"),
        ("project", "a/b"),
        ("project", ""),
        ("location", "europe/west1"),
        ("location", "*"),
        ("key_ring", "a/../b"),
        ("key_ring", "x" * 64),
        ("credentials_file", ""),
        ("surplus", "x"),
    ],
)
def test_settings_that_cannot_be(name: str, value: str) -> None:
    with pytest.raises(ValidationError):
        settings(**{name: value})


@pytest.mark.parametrize("project", ["my-project", "example.com:my-project", "p-1"])
def test_projects(project: str) -> None:
    assert settings(project=project).project == project


async def test_without_any_credentials_the_provider_does_not_open() -> None:
    with pytest.raises(ConfigurationError, match="no Google credentials found: set credentials_file"):
        await FACTORY.open(settings())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[]",
        "{}",
        '{"type": "authorized_user"}',
        '{"type": "service_account"}',
        '{"type": "external_account"}',
    ],
)
async def test_a_credentials_file_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secret-name.json"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match="credentials_file") as refused:
        await FACTORY.open(settings(credentials_file=str(path)))
    assert "secret-name" not in str(refused.value)


async def test_files_that_are_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="credentials_file: the file cannot be used"):
        await FACTORY.open(settings(credentials_file=str(tmp_path / "none")))
