from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from providers.aws_provider_support import SHORT, opened
from sealwright_providers.aws.provider import AwsProvider
from sealwright_testing.emulators.aws import AwsEmulator


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Sets the credentials of the emulator, and hides others that the SDK could find on this machine."""
    for name in ("AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture(params=["http", "boto3"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def emulator() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as running:
        yield running


@pytest_asyncio.fixture
async def provider(emulator: AwsEmulator, transport: str) -> AsyncIterator[AwsProvider]:
    """A provider on the emulator, with each of its two transports."""
    # Threads of boto3 that hang end at the timeout.
    async with opened(emulator.endpoint, transport=transport, timeout=SHORT) as provider:
        yield provider


@pytest_asyncio.fixture
async def http(emulator: AwsEmulator) -> AsyncIterator[AwsProvider]:
    """A provider on the emulator, with the default transport."""
    async with opened(emulator.endpoint) as provider:
        yield provider
