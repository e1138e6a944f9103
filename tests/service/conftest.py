from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.emulators.gcp import GcpEmulator
from sealwright_testing.postgres import PostgresServer
from support.databases import KINDS, postgres_server, upgraded
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
async def spare() -> AsyncIterator[AwsEmulator]:
    """Another account."""
    async with AwsEmulator() as one:
        yield one


@pytest.fixture
def gcp() -> Iterator[GcpEmulator]:
    with GcpEmulator() as one:
        yield one


@pytest.fixture
async def service(tmp_path: Path, emulator: AwsEmulator) -> AsyncIterator[Service]:
    async with running(document(tmp_path, emulator.endpoint)) as running_service:
        emulator.reset_calls()  # Without those for its keys.
        yield running_service


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as one:
        yield one


@pytest.fixture
def url(server: PostgresServer) -> str:
    """The URL of a store on PostgreSQL, without keys."""
    server.clear("postgres")
    upgraded(server.url("postgres"))
    return server.url("postgres")


@pytest.fixture(params=KINDS)
def each_database(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the configurations of the test have a store on each kind of database."""
    if request.param == "postgresql":
        found = request.getfixturevalue("url")
        monkeypatch.setattr("support.document.store_url", lambda _: found)
