"""Kids are taken as they are (F45) and never cut (F47)."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sealwright.cli import keys
from sealwright.v1.keys_pb2 import Key

KIDS = st.text(st.sampled_from("ABCabc019-_h"), min_size=42, max_size=42)


def parsed(*arguments: str) -> dict[str, Any]:
    command = keys.keys.commands["revoke"]
    return dict(command.make_context("revoke", list(arguments), resilient_parsing=False).params)


@given(KIDS, st.booleans())
def test_f45_a_kid_that_begins_with_a_hyphen_is_an_argument(rest: str, first: bool) -> None:  # noqa: FBT001 - hypothesis
    kid = f"-{rest}"
    order = ["payments", kid, "--reason", "stolen"] if first else ["--reason", "stolen", "payments", kid]
    got = parsed(*order)
    assert (got["kid"], got["issuer"], got["reason"]) == (kid, "issuers/payments", "stolen")
    assert parsed("payments", "--reason", kid, "--provider", "p")["reason"] == kid


@pytest.mark.parametrize("option", ["-x", "--nothing", "-RPJ"])
def test_what_is_no_kid_is_still_an_unknown_option(option: str) -> None:
    done = CliRunner().invoke(keys.keys, ["revoke", "payments", option, "--reason", "x"])
    assert (done.exit_code, "No such option" in done.output) == (click.UsageError.exit_code, True)


@pytest.mark.parametrize("columns", [1, 20, 40, 43, 80, 120, 200])
@pytest.mark.parametrize("terminal", [True, False])
def test_f47_kids_are_never_cut(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int, *, terminal: bool
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("NO_COLOR", raising=False)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm")
    kids = ["5JgW-IU" + "x" * 36, "-" + "_" * 42]
    series, provider = "s" * 63, "p" * 63
    made = [Key(kid=k, state=Key.STATE_ACTIVE, algorithm="ES256", series=series, provider=provider) for k in kids]
    keys._show_keys("text", made)
    shown = capsys.readouterr().out
    for value in (*kids, series, provider, "ACTIVE", "ES256"):
        assert value in shown
    assert "…" not in shown
    assert len(shown.splitlines()) == (3 if not terminal else 11)
