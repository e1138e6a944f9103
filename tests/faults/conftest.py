from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from faults.strangers import Door
from sealwright_testing.emulators.aws import AwsEmulator, ThreadedAwsEmulator
from sealwright_testing.postgres import PostgresServer
from support.databases import postgres_server
from support.document import CREDENTIALS


@pytest.fixture(autouse=True)
def _aws_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as one:
        yield one


@pytest.fixture
def kms() -> Iterator[AwsEmulator]:
    with ThreadedAwsEmulator() as one:
        yield one


@pytest.fixture
async def door() -> AsyncIterator[Callable[..., Door]]:
    doors: list[Door] = []

    def make(total: int = 100, per_address: int = 100, **more: Any) -> Door:
        doors.append(Door(total, per_address, **more))
        return doors[-1]

    yield make
    for one in doors:
        one.release.set()
        await one.connections.close()
