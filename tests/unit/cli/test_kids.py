"""F45: kids that begin with a hyphen are taken as they are."""

from __future__ import annotations

from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from sealwright.cli import keys

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
