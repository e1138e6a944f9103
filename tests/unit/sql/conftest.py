from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sealwright.sql import postgres_connection
from sealwright.sql.settings import StoreSettings
from sealwright_testing.postgres import PostgresServer
from support.databases import KINDS, postgres_server

from .rows import settings


@pytest.fixture(scope="session")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as one:
        yield one


@pytest.fixture
def postgresql(server: PostgresServer) -> StoreSettings:
    """The settings of an empty database on PostgreSQL."""
    server.clear("postgres")
    return StoreSettings(url=server.url("postgres"))


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> StoreSettings:
    """The settings of an empty database of each kind."""
    if request.param == "sqlite":
        return settings(tmp_path / "state.db")
    found: StoreSettings = request.getfixturevalue("postgresql")
    return found


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attempt to connect be made."""
    monkeypatch.setattr(postgres_connection, "_FIRST_PAUSE", 0.0)
    monkeypatch.setattr(postgres_connection, "_LONGEST_PAUSE", 0.0)
