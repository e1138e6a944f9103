"""I11, I12: the benchmarks still run. No figure is judged here."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sealwright_testing.postgres import postgres_binaries
from support.document import tool_missing

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def run(name: str, *arguments: str, env: dict[str, str] | None = None) -> list[str]:
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(BENCHMARKS / name), *arguments],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env=env,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def module(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Import a benchmark. `providers` is also the name of a directory of tests."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    other = sys.modules.pop("providers", None)
    try:
        return importlib.import_module(name)
    finally:
        sys.modules.pop("providers", None)
        if other is not None:
            sys.modules["providers"] = other


def test_i12_the_benchmark_of_replicas_measures_each_figure() -> None:
    if postgres_binaries() is None:
        tool_missing("postgresql")
    lines = run(
        "replicas.py", *["--issuers", "2", "--series", "1", "--replicas", "2", "--seconds", "1", "--changes", "2"]
    )
    assert len(lines) == 8
    assert all(line.startswith("2 x 1: ") for line in lines)
    assert lines[-1].endswith("(target 1000 ms)")


@pytest.mark.parametrize(
    ("part", "figures", "load"), [("aws", 4, "h2load"), ("one", 12, "h2load"), ("one", 12, ""), ("workers", 5, "")]
)
def test_i11_bench_measures_each_figure_with_either_load(part: str, figures: int, load: str) -> None:
    if load and shutil.which(load) is None:
        tool_missing("nghttp2-client")
    env = {**os.environ} if load else {**os.environ, "PATH": "/nonexistent"}
    lines = run("bench.py", "--only", part, "--seconds", "0.2", "--rounds", "1", "--no-file", env=env)
    assert lines[0].startswith("load: h2load;" if load else "load: a client in Python (h2load is missing")
    assert len(lines) == 2 + figures + 2


def test_i11_many_issuers_are_measured_beside_one() -> None:
    lines = run("many.py", *["--issuers", "3", "--seconds", "0.2", "--rounds", "1"])
    assert len(lines) == 5
    assert sum(line.startswith("3 issuers x 2 series: ") for line in lines) == 3


def test_i11_the_clients_of_google_are_measured() -> None:
    lines = run("google_calls.py", *["--seconds", "0.2", "--rounds", "1", "--concurrency", "4"])
    assert len(lines) == 4
    assert all(" µs (" in line for line in lines[1:])


def test_i11_the_parts_of_a_call_are_measured() -> None:
    lines = run("parts.py", *["--calls", "20", "--rounds", "1"])
    assert len(lines) == 8
    assert lines[1].startswith("the service's own share")


def test_i11_endurance_shows_what_the_service_holds() -> None:
    lines = run("endurance.py", *["--tokens", "2000", "--points", "2"])
    assert len(lines) == 6
    assert lines[-1] == "flat"


def test_i11_endurance_says_what_is_not_flat(monkeypatch: pytest.MonkeyPatch) -> None:
    endurance = module("endurance", monkeypatch)
    flat = [endurance.Point(n, 100.0, 20, 10) for n in range(4)]
    assert endurance.problems(flat) == []
    assert endurance.problems([*flat, endurance.Point(4, 100.0, 60, 10)]) == ["descriptors grew from 20 to 60"]
    assert endurance.problems([*flat, endurance.Point(4, 100.0, 20, 40)]) == ["threads grew from 10 to 40"]
    assert endurance.problems([*flat, endurance.Point(4, 130.0, 20, 10)]) == ["memory grew from 100 to 130 MB"]


def test_i11_the_profile_runs_without_py_spy() -> None:
    lines = run("profile_signing.py", "--seconds", "0.3", "--py-spy", "")
    assert "| part | share | µs |" in lines
    assert any(line.startswith("| event loop") for line in lines)


def test_i11_the_profile_counts_a_sample_for_the_nearest_part(monkeypatch: pytest.MonkeyPatch) -> None:
    profile = module("profile_signing", monkeypatch)
    base = "thread (7): MainThread;serve (sealwright/cli/serve.py:54);run_worker (sealwright/server/worker.py:71)"
    signing = f"{base};Boundary._answer (sealwright/server/rpc/interceptors.py:140);sign (sealwright/signing.py:122)"
    raw = "\n".join(
        [
            f"{base};Runner.run (asyncio/runners.py:118) 4",
            f"{signing} 2",
            f"{signing};sign (sealwright/kms/guard.py:50);sign (sealwright_providers/aws/client.py:9);write (ssl.py:930) 3",
            f"{signing};accept (sealwright/signing.py:300);verify (sealwright/jose/key_kinds.py:120) 1",
            "thread (8): sealwright-audit;run (threading.py:982);AuditWriter._work (sealwright/audit/writer.py:161) 9",
        ]
    )
    found, names = profile.samples(raw, 7)
    assert found == Counter(
        {
            profile.LOOP: 4,
            "policy, claims, keyring": 2,
            "KMS client: SigV4, HTTP, TLS, JSON": 3,
            "verifying the signature": 1,
        }
    )
    parts = profile.shares({7: 1.0, 8: 0.5, 9: 0.25}, 7, found, names)
    assert parts["audit: write and sync"] == 0.5
    assert parts[profile.OTHERS] == 0.25
    assert parts[profile.LOOP] == pytest.approx(0.4)


def counting(*counts: Counter[str]) -> SimpleNamespace:
    left = list(counts)
    return SimpleNamespace(counts=lambda: left.pop(0))


def test_i11_a_round_is_void_where_the_service_counts_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    running = module("running", monkeypatch)
    before = Counter({"code:OK": 10, "tokens": 10})
    after = Counter({"code:OK": 13, "code:RESOURCE_EXHAUSTED": 1, "tokens": 13})
    with (
        pytest.raises(SystemExit, match="EXHAUSTED"),
        running.answered(counting(before, after), refusable=0.2) as asked,
    ):
        asked.calls = 4
    with running.answered(counting(before, after), refusable=1) as asked:
        asked.calls = 4
    assert (asked.refused, asked.tokens) == (1, 3)
    failed = Counter({"code:OK": 13, "code:UNAVAILABLE": 1, "tokens": 13})
    with (
        pytest.raises(SystemExit, match="UNAVAILABLE"),
        running.answered(counting(before, failed), refusable=1) as asked,
    ):
        asked.calls = 4


def test_i11_some_figures_replace_those_in_the_file_of_the_day(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    table = module("table", monkeypatch)
    monkeypatch.setattr(table, "FOLDER", tmp_path)
    first, second = table.Results(), table.Results()
    first.ratio("kept", "kept", "", [2.0], [1.0])
    first.ratio("again", "again", "", [2.0], [1.0])
    second.ratio("again", "again", "", [3.0], [1.0])
    first.write("h2load")
    written = json.loads(second.write("h2load", merge=True).read_text())
    assert written["ratios"] == {"kept": 2.0, "again": 3.0}
    assert json.loads(second.write("h2load").read_text())["ratios"] == {"again": 3.0}
