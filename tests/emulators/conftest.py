from __future__ import annotations

from typing import TYPE_CHECKING

import pytest_asyncio

from emulators.aws_support import Kms, connect
from sealwright_testing.emulators.aws import AwsEmulator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest_asyncio.fixture
async def emulator() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as running:
        yield running


@pytest_asyncio.fixture
async def kms(emulator: AwsEmulator) -> AsyncIterator[Kms]:
    async with connect(emulator) as client:
        yield client
