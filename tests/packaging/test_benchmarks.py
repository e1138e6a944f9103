"""I12: the benchmark of replicas still runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sealwright_testing.postgres import postgres_binaries
from support.document import tool_missing

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "replicas.py"
SMALL = ("--issuers", "2", "--series", "1", "--replicas", "2", "--seconds", "1", "--changes", "2")


def test_i12_the_benchmark_of_replicas_measures_each_figure() -> None:
    if postgres_binaries() is None:
        tool_missing("postgresql")
    done = subprocess.run(  # noqa: S603 - our own script
        [sys.executable, str(BENCHMARK), *SMALL], capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert all(line.startswith("2 x 1: ") for line in lines)
    assert lines[-1].endswith("(target 1000 ms)")
