"""`sealwright keys orphans` and `keys unblock`, as processes."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.creating import CLOUDS, DENIED, Cloud, cloud
from support.document import CREDENTIALS
from support.processes import BIN, process, write_config

LISTS = {"aws": "ListKeys", "gcp": "ListCryptoKeys", "azure": "GetKeys"}


@pytest.fixture
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cloud]:
    with cloud(request.param, tmp_path) as one:
        yield one


def run(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(  # noqa: S603 - our own program
        [str(BIN / "sealwright"), *arguments],
        env={**os.environ, **CREDENTIALS},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("at", CLOUDS, indirect=True)
def test_f12_the_command_lists_what_nobody_knows(at: Cloud, tmp_path: Path) -> None:
    config = write_config(tmp_path, at.document())
    listing = ("keys", "orphans", "--config", config)
    code, _, problem = run(*listing)
    assert (code, "there is no store" in problem) == (1, True)
    with process(tmp_path, "sealwright", "serve", "--config", config):
        assert run(*listing)[:2] == (0, "there are no orphans\n")
        known = set(at.enabled())
        at.copy_tags(at.found()[0])
        (theirs,) = set(at.enabled()) - known
        assert run(*listing)[:2] == (1, f"{at.provider}: {theirs}\n")
    code, text, _ = run(*listing, "--output", "json")
    assert (code, json.loads(text)["orphans"]) == (1, {at.provider: [theirs]})
    at.arm(DENIED[at.provider], LISTS[at.provider])
    code, text, _ = run(*listing)
    assert (code, text) == (1, f"{at.provider}: could not be searched: PROVIDER_ACCESS_DENIED\n")


@pytest.mark.parametrize("at", ["aws"], indirect=True)
def test_f56_the_command_permits_a_provider_again(at: Cloud, tmp_path: Path) -> None:
    config = write_config(tmp_path, at.document())
    code, _, problem = run("keys", "unblock", "nobody", "--config", config)
    assert (code, "no provider nobody" in problem) == (2, True)
    with process(tmp_path, "sealwright", "serve", "--config", config) as service:
        connection = ("--address", service.ready["grpc"], "--plaintext")
        code, text, problem = run(
            "keys", "revoke", "payments", "--provider", "aws", "--reason", "x", "--yes", *connection
        )
        assert code == 0, problem
        assert "keys unblock aws" in text
        assert "verifiers that ignore Cache-Control may hold them until" in text
        assert run("keys", "unblock", "aws", "--config", config)[:2] == (0, "provider aws creates keys again\n")
        assert run("keys", "unblock", "aws", "--config", config)[:2] == (0, "provider aws was not blocked\n")
