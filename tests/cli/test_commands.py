"""The commands that speak to a service, as a person and a program use them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.processes import BIN, Process, process


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with process(tmp_path_factory.mktemp("dev"), "sealwright", "dev", "--output", "json") as running:
        yield running


def sealwright(*arguments: str, dev: Process | None = None, stdin: str = "") -> subprocess.CompletedProcess[str]:
    connection = ("--plaintext", "--address", dev.ready["grpc"]) if dev else ()
    return subprocess.run(  # noqa: S603 - our own command
        [str(BIN / "sealwright"), *arguments, *connection],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        input=stdin,
    )


def test_sign_prints_a_token_that_verify_takes(dev: Process) -> None:
    signed = sealwright("sign", "dev", "--subject", "user-1", "--audience", "a", "--lifetime", "5m", dev=dev)
    assert signed.returncode == 0
    token = signed.stdout.strip()
    assert token.count(".") == 2
    good = sealwright("verify", "dev", token, "--audience", "a", dev=dev)
    assert good.returncode == 0
    assert '"sub": "user-1"' in good.stdout
    from_stdin = sealwright("verify", "dev", "-", "--skip-audience-check", "--output", "json", dev=dev, stdin=token)
    assert json.loads(from_stdin.stdout)["claims"]["aud"] == "a"


def test_claims_come_from_a_file_or_from_standard_input(dev: Process, tmp_path: Path) -> None:
    (tmp_path / "claims.json").write_text('{"n": 9007199254740993}')
    for claims, stdin in ((f"@{tmp_path}/claims.json", ""), ("-", '{"n": 9007199254740993}')):
        signed = sealwright("sign", "dev", "--claims", claims, "--output", "json", dev=dev, stdin=stdin)
        token = json.loads(signed.stdout)["token"]
        good = sealwright("verify", "dev", token, "--skip-audience-check", dev=dev)
        assert "9007199254740993" in good.stdout


def test_a_refusal_of_the_service_is_printed_with_its_reason_and_exit_status_1(dev: Process) -> None:
    refused = sealwright("sign", "dev", "--claims", '{"iss": "x", "exp": true}', dev=dev)
    assert refused.returncode == 1
    assert refused.stdout == ""
    assert "REQUEST_INVALID" in refused.stderr
    assert "claims_json.exp" in refused.stderr
    assert "Traceback" not in refused.stderr
    as_json = sealwright("verify", "dev", "a.b.c", "--audience", "x", "--output", "json", dev=dev)
    assert as_json.returncode == 1
    assert any("TOKEN_INVALID" in p for p in json.loads(as_json.stdout)["problems"])


def test_jwks_prints_the_set(dev: Process) -> None:
    found = sealwright("jwks", "dev", "--output", "json", dev=dev)
    assert len(json.loads(found.stdout)["keys"]) == 2
    assert json.loads(sealwright("jwks", "dev", dev=dev).stdout) == json.loads(found.stdout)


def test_keys_are_listed_rotated_and_revoked(dev: Process) -> None:
    listed = json.loads(sealwright("keys", "list", "dev", "--output", "json", dev=dev).stdout)
    active = next(k for k in listed if k["state"] == "STATE_ACTIVE")
    plan = sealwright("keys", "rotate", "dev", "--dry-run", dev=dev)
    assert plan.returncode == 0
    assert "RETIRED" in plan.stdout
    assert "\x1b" not in plan.stdout  # not a terminal, so no colours
    rotated = sealwright("keys", "rotate", "dev", "--expected-kid", active["kid"], dev=dev)
    assert rotated.returncode == 0
    early = sealwright("keys", "rotate", "dev", dev=dev)
    assert (early.returncode, "ROTATION_TOO_EARLY" in early.stderr) == (1, True)
    asked = sealwright("keys", "revoke", "dev", active["kid"], "--reason", "a test", dev=dev)
    assert asked.returncode == 1  # not confirmed
    done = sealwright("keys", "revoke", "issuers/dev", active["kid"], "--reason", "a test", "--yes", dev=dev)
    assert done.returncode == 0
    assert "REVOKED" in done.stdout
    assert "caches may hold the keys until" in done.stdout


def test_a_service_that_cannot_be_reached_is_reported_plainly() -> None:
    refused = sealwright("jwks", "dev", "--plaintext", "--address", "127.0.0.1:1", "--timeout", "2")
    assert refused.returncode == 1
    assert "UNAVAILABLE" in refused.stderr or "DEADLINE_EXCEEDED" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_dev_prints_lines_to_paste(tmp_path: Path) -> None:
    running = Process(tmp_path, "sealwright", "dev")
    try:
        stdout = running.popen.stdout
        assert stdout is not None
        text = ""
        while "SignJwt" not in text:
            line = stdout.readline().decode()
            assert line
            text += line
        command = next(line.strip() for line in text.splitlines() if line.strip().startswith("sealwright sign"))
        pasted = subprocess.run(  # noqa: S602 - what a person pastes into a shell
            f"PATH={BIN}:$PATH; {command}", shell=True, check=True, capture_output=True, text=True, timeout=30
        )
        assert pasted.stdout.count(".") == 2
    finally:
        running.stop()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(shell: str) -> None:
    assert "sealwright" in sealwright("completion", shell).stdout


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["serve"],
        ["dev"],
        ["sign"],
        ["verify"],
        ["jwks"],
        ["keys"],
        ["keys", "list"],
        ["keys", "rotate"],
        ["keys", "revoke"],
    ],
)
def test_every_command_explains_itself(command: list[str]) -> None:
    shown = sealwright(*command, "--help")
    assert shown.returncode == 0
    assert len(shown.stdout) > 200


def test_a_wrong_command_line_is_status_2() -> None:
    assert sealwright("sign").returncode == 2
    assert sealwright("sign", "dev", "--lifetime", "ten minutes").returncode == 2
    assert sealwright("nonsense").returncode == 2
