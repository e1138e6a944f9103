from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sealwright_testing.emulators.aws import AwsEmulator
from support.document import CREDENTIALS, document
from support.service import Service, running


@pytest.fixture(autouse=True)
def _aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def emulator() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as running_emulator:
        yield running_emulator


@pytest.fixture
async def service(tmp_path: Path, emulator: AwsEmulator) -> AsyncIterator[Service]:
    async with running(document(tmp_path, emulator.endpoint)) as running_service:
        emulator.reset_calls()  # Without those for its keys.
        yield running_service
