"""I12: `sealwright replicas`: which processes use the store, and which have not read its newest state."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sealwright import __version__
from sealwright.__main__ import main
from sealwright.ids import uuid7
from sealwright.keys.ports import Replica
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright_testing.postgres import PostgresServer
from support.databases import postgres_server, upgraded
from support.document import document, issuer
from support.processes import process, write_config

HOST = "signer-7.a-very-long-name-of-a-data-centre.internal.example.com"
IDS = {state: uuid7() for state in ("current", "behind", "silent")}


def run(config: str, *more: str) -> Result:
    return CliRunner().invoke(main, ["replicas", "--config", config, *more])


async def _fill(url: str) -> None:
    store = await SqlStore.open(StoreSettings(url=url))
    state = await store.read()
    for name, replica_id in IDS.items():
        await store.heartbeat(
            Replica(
                replica_id=replica_id,
                revision=state.revision - (name == "behind"),
                start_time=state.time - timedelta(days=3),
                seen_time=state.time - timedelta(seconds=35 if name == "silent" else 1),
                host=HOST,
                version="1.2.3rc4",
            )
        )
    await store.aclose()


@pytest.fixture(params=["sqlite", "postgresql"])
def config(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    tables = document(tmp_path, "http://127.0.0.1:9", issuer())
    if request.param == "postgresql":
        server: PostgresServer = request.getfixturevalue("server")
        server.clear("postgres")
        upgraded(server.url("postgres"))
        tables["store"]["url"] = server.url("postgres")
    asyncio.run(_fill(tables["store"]["url"]))
    return write_config(tmp_path, tables)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with postgres_server() as one:
        yield one


def test_i12_replicas_are_current_behind_or_silent(config: str) -> None:
    done = run(config, "--output", "json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert {r["replica_id"]: r["state"] for r in found["replicas"]} == {i: state for state, i in IDS.items()}
    for row in found["replicas"]:
        assert (row["host"], row["version"]) == (HOST, "1.2.3rc4")
        assert row["revision"] == found["revision"] - (row["state"] == "behind")
        assert row["start_time"] < row["seen_time"] < found["time"]
        assert row["seen_time"].endswith("Z")


@pytest.mark.parametrize("columns", [1, 20, 40, 80, 120, 400])
def test_i12_nothing_is_cut_on_a_narrow_terminal(config: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    shown = run(config).stdout
    for value in (*IDS, *IDS.values(), HOST, "1.2.3rc4", " s ago"):
        assert value in shown
    assert "…" not in shown
    assert len(shown.splitlines()) == (5 if columns == 400 else 3 * 7 + 2 + 1)


def test_i12_a_store_without_replicas_and_no_store(tmp_path: Path) -> None:
    config = write_config(tmp_path, document(tmp_path, "http://127.0.0.1:9", issuer()))
    problem = "store.url: there is no store"
    for form, line in (("text", f"error: {problem}"), ("json", f'{{"problems": ["{problem}"]}}')):
        done = run(config, "--output", form)
        assert (done.exit_code, done.output) == (1, f"{line}\n")
    CliRunner().invoke(main, ["db", "upgrade", "--config", config])
    assert run(config).stdout == "there are no replicas\n"
    assert json.loads(run(config, "--output", "json").stdout)["replicas"] == []


def test_i12_a_worker_says_where_it_runs_and_what_it_is(tmp_path: Path) -> None:
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as kms:
        tables = document(tmp_path, kms.ready["endpoint"])
        tables["server"]["workers"] = 2
        config = write_config(tmp_path, tables)
        with process(tmp_path, "sealwright", "serve", "--config", config):
            rows: list[dict[str, Any]] = []
            while len(rows) < 2 or {r["state"] for r in rows} != {"current"}:
                rows = json.loads(run(config, "--output", "json").stdout)["replicas"]
            assert {(r["host"], r["version"]) for r in rows} == {(socket.gethostname(), __version__)}
        assert json.loads(run(config, "--output", "json").stdout)["replicas"] == []
