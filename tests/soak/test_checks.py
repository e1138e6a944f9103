"""I12: the checks of the soak find what they look for."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from soak import checks
from soak.ledger import MISSING, ORPHANS, REVOKED, Ledger, Token

GAP = "an audit file with a gap"


def token(jti: str = "t", *, released: float = 100, asked: float = 99) -> Token:
    return Token(
        text="", jti=jti, kid="k", issuer="i", host="one", asked=asked, released=released, expires=released + 10
    )


def record(sequence: int, jti: str = "t", outcome: str = "allowed") -> dict[str, Any]:
    return {"sequence": sequence, "event": "sign", "outcome": outcome, "jti": jti}


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ([record(1)], set()),
        ([], {MISSING}),
        ([record(1, "another")], {MISSING}),
        ([record(1), record(2)], {MISSING}),
        ([record(1), record(2, outcome="withheld")], {MISSING}),
        ([record(1, outcome="failed")], {MISSING}),
        ([record(1, "another"), record(3)], {GAP}),
    ],
)
def test_i12_a_token_without_exactly_one_record_is_found(
    tmp_path: Path, records: list[dict[str, Any]], found: set[str]
) -> None:
    ledger = Ledger(tokens=[token()])
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    host: Any = SimpleNamespace(name="one", audit=tmp_path)
    checks.audited([host], ledger)
    assert set(ledger.violations) == found


def test_i12_a_token_of_a_revoked_key_is_found_unless_its_host_was_stopped() -> None:
    ledger = Ledger(confirmed={"k": 100.0})
    ledger.release(token(released=100.5))
    assert REVOKED not in ledger.violations
    ledger.release(token(released=102, asked=99.9))
    assert len(ledger.violations[REVOKED]) == 1
    with ledger.trouble("one"):
        pass
    now = time.time()
    ledger.confirmed["k"] = now - 5
    ledger.release(token(released=now, asked=now - 4))
    assert len(ledger.violations[REVOKED]) == 1
    ledger.release(token(released=now + 9, asked=now + 8))
    assert len(ledger.violations[REVOKED]) == 2


async def test_i12_an_orphan_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_SECONDS", 0)

    def key(name: str, intent: str = "", state: str = "Enabled") -> dict[str, Any]:
        return {"key_id": name, "arn": name, "state": state, "tags": {"sealwright:intent": intent}}

    keys = [key("known"), key("opened", "open"), key("gone", state="PendingDeletion"), key("lost", "closed")]

    async def all_keys() -> Mapping[str, Mapping[str, Any]]:
        return {k["arn"]: k for k in keys}

    def execute(statement: str) -> str:
        return "awskms:///known" if "FROM keys" in statement else "open"

    ledger = Ledger()
    kms: Any = SimpleNamespace(keys=all_keys)
    database: Any = SimpleNamespace(execute=execute)
    await checks.no_orphans([kms], database, "", ledger)
    (orphan,) = ledger.violations[ORPHANS]
    assert orphan.startswith("lost ")
