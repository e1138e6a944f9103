from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from providers.azure.azure_support import opened
from sealwright_providers.azure.provider import AzureProvider
from sealwright_testing.emulators.azure import AzureEmulator


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing that the SDK might find on this machine."""
    for name in list(os.environ):
        if name.startswith(("AZURE_", "IDENTITY_", "IMDS_", "MSI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AZURE_CONFIG_DIR", str(tmp_path / "cli"))


@pytest_asyncio.fixture
async def vault() -> AsyncIterator[AzureEmulator]:
    async with AzureEmulator() as running:
        yield running


@pytest_asyncio.fixture
async def hsm() -> AsyncIterator[AzureEmulator]:
    async with AzureEmulator(managed_hsm=True) as running:
        yield running


@pytest_asyncio.fixture
async def azure(vault: AzureEmulator, tmp_path: Path) -> AsyncIterator[AzureProvider]:
    """A provider on a vault."""
    async with opened(vault, tmp_path) as provider:
        yield provider


@pytest_asyncio.fixture
async def azure_hsm(hsm: AzureEmulator, tmp_path: Path) -> AsyncIterator[AzureProvider]:
    """A provider on a Managed HSM."""
    async with opened(hsm, tmp_path) as provider:
        yield provider
