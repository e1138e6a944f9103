"""Tests that need their own process: forks, calls that hang at its end, and the soak test."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from providers.pkcs11.pkcs11_support import beside, in_process
from sealwright_testing.pkcs11_faults import Call, compiler
from sealwright_testing.softhsm import SoftHsm
from support.document import tool_missing

SOAK_SECONDS = float(os.environ.get("SEALWRIGHT_SOAK_SECONDS", "3"))


@pytest.mark.parametrize("reset_on_fork", [False, True])
def test_c126_a_child_signs_and_so_does_its_parent(hsm: SoftHsm, *, reset_on_fork: bool) -> None:
    if reset_on_fork:
        with hsm.conf.open("a", encoding="ascii") as conf:
            conf.write("library.reset_on_fork = true\n")
    assert json.loads(in_process(beside("forking.py"), json.dumps(hsm.settings()))) == [0, 0, 0]


@pytest.mark.parametrize("call", [Call.SIGN, Call.INITIALIZE])
def test_a_call_that_hangs_does_not_keep_the_process_from_ending(hsm: SoftHsm, tmp_path: Path, call: Call) -> None:
    if compiler() is None:
        tool_missing("a C compiler")
    arguments = (str(tmp_path), hsm.module, json.dumps(hsm.settings()), str(int(call)))
    reason, seconds = json.loads(in_process(beside("hanging.py"), *arguments, seconds=20))
    assert reason in {"PROVIDER_TIMEOUT", "PROVIDER_UNAVAILABLE"}
    assert seconds < 2


@pytest.mark.timeout(SOAK_SECONDS + 60)
def test_the_soak(hsm: SoftHsm) -> None:
    table = json.dumps(hsm.settings())
    report = json.loads(in_process(beside("soak.py"), str(SOAK_SECONDS), table, seconds=SOAK_SECONDS + 50))
    assert report["wrong"] == 0
    assert report["signed"] > 100
    assert set(report["done"]) == {"sessions", "login", "module"}
