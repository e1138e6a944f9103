from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from providers.gcp.gcp_support import opened
from sealwright_providers.gcp.provider import GcpProvider
from sealwright_testing.emulators.gcp import GcpEmulator


@pytest.fixture(autouse=True)
def google_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    """Nothing that google-auth might find on this machine."""
    for name in (
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CLOUD_PROJECT",
        "GCE_METADATA_HOST",
        "GOOGLE_CLOUD_QUOTA_PROJECT",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CLOUDSDK_CONFIG", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


@pytest.fixture
def emulator() -> Iterator[GcpEmulator]:
    with GcpEmulator() as running:
        yield running


@pytest_asyncio.fixture
async def provider(emulator: GcpEmulator) -> AsyncIterator[GcpProvider]:
    async with opened(emulator) as provider:
        yield provider
