"""I12: `sealwright serve` is killed, or stopped for a while, at each step of a key's life, on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.living import LONGEST, Store, live
from sealwright_testing.postgres import PostgresServer
from support.databases import postgres_server, upgraded


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as one:
        yield one


@pytest.mark.timeout(LONGEST)
@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_i12_whatever_happens_at_any_step_no_key_is_lost_left_over_or_used_early(
    tmp_path: Path, server: PostgresServer, *, kill: bool
) -> None:
    server.clear("postgres")
    upgraded(server.url("postgres"))
    live(tmp_path, Store(server.url("postgres"), server), kill=kill)
