"""Commands as processes: locales, files, standard streams, terminals and connections that are not as they should be."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import subprocess
import termios
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.document import tool_missing
from support.locales import made_locales
from support.processes import BIN, Process, process

SEALWRIGHT = str(BIN / "sealwright")
CLAIMS = '{"name":"José ✓"}'


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with process(tmp_path_factory.mktemp("dev"), "sealwright", "dev", "--output", "json") as running:
        yield running


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return made_locales(tmp_path_factory.mktemp("locales"))


def run(
    *arguments: str | bytes, env: Mapping[str, str] | None = None, stdin: bytes = b"", redirect: str = ""
) -> subprocess.CompletedProcess[bytes]:
    """Run a command. `redirect` is appended to it, such as a redirection."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONIOENCODING", "PYTHONUTF8"))}
    command: list[str | bytes] = [SEALWRIGHT, *arguments]
    if redirect:
        command = ["/bin/bash", "-c", f'"$0" "$@" {redirect}', *command]
    return subprocess.run(  # noqa: S603 - our own command
        command, check=False, capture_output=True, timeout=60, input=stdin, env={**kept, **(env or {})}
    )


def connection(dev: Process) -> tuple[str, ...]:
    return ("--plaintext", "--address", dev.ready["grpc"])


def signed(dev: Process, *arguments: str | bytes) -> tuple[str | bytes, ...]:
    return ("sign", "dev", *connection(dev), *arguments)


def payload(token: bytes) -> dict[str, object]:
    part = token.split(b".")[1]
    claims: dict[str, object] = json.loads(base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4)))
    return claims


LOCALES = ["C", "POSIX", "UTF-8", "ASCII", "PYTHONIOENCODING", "Latin-1"]


@pytest.mark.parametrize("name", LOCALES)
def test_f46_bytes_are_utf_8_in_every_locale(
    dev: Process, locales: dict[str, dict[str, str]], tmp_path: Path, name: str
) -> None:
    if name not in locales:
        tool_missing("the source of the locale en_US")
    env = locales[name]
    path = tmp_path / "Ansprüche.json"
    path.write_bytes(CLAIMS.encode())
    token = b""
    for claims in (b"-", b"@" + os.fsencode(path), CLAIMS.encode()):
        done = run(*signed(dev, "--claims", claims, "--subject", "Zoë".encode()), env=env, stdin=CLAIMS.encode())
        assert (done.returncode, done.stderr) == (0, b"")
        token = done.stdout.strip()
        assert payload(token).items() >= {"name": "José ✓", "sub": "Zoë"}.items()
    seen = run("verify", "dev", token, "--skip-audience-check", *connection(dev), env=env)
    assert (seen.returncode, seen.stderr) == (0, b"")
    assert "José ✓".encode() in seen.stdout


@pytest.mark.parametrize("name", LOCALES)
def test_f46_what_is_not_utf_8_is_one_line_and_status_2(
    locales: dict[str, dict[str, str]], tmp_path: Path, name: str
) -> None:
    if name not in locales:
        tool_missing("the source of the locale en_US")
    wrong = '{"name":"José"}'.encode("latin-1")
    path = tmp_path / "claims.json"
    path.write_bytes(wrong)
    cases = {
        b"-": "error: --claims: standard input: byte 12 is not UTF-8\n",
        b"@" + os.fsencode(path): f"error: --claims: {path}: byte 12 is not UTF-8\n",
        wrong: "error: argument 4: is not UTF-8\n",
    }
    for claims, expected in cases.items():
        done = run("sign", "dev", "--claims", claims, env=locales[name], stdin=wrong)
        assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", expected)
    done = run("jwks", "dev", env={**locales[name], "SEALWRIGHT_ADDRESS": os.fsdecode(b"\xff:1")})
    assert (done.returncode, done.stderr) == (2, b"error: SEALWRIGHT_ADDRESS: is not UTF-8\n")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--claims", "@none.json"), "--claims: none.json: No such file or directory"),
        (("--claims", "@."), "--claims: .: Is a directory"),
        (("--claims", "@"), "--claims: .: Is a directory"),
        (("--claims", "@/dev/zero"), "--claims: /dev/zero: has more than 4194304 bytes"),
        (("--ca", "none.pem"), "--ca: none.pem: No such file or directory"),
        (("--certificate", "/", "--private-key", "/"), "--private-key: /: Is a directory"),
    ],
    ids=str,
)
def test_f46_a_wrong_file_is_one_line_and_status_2(arguments: tuple[str, ...], expected: str) -> None:
    done = run("sign", "dev", *arguments)
    assert (done.returncode, done.stdout, done.stderr.decode()) == (2, b"", f"error: {expected}\n")


def test_f46_a_closed_standard_input_is_one_line_and_status_2() -> None:
    done = run("sign", "dev", "--claims", "-", redirect="<&-")
    assert (done.returncode, done.stderr) == (2, b"error: --claims: standard input: it is closed\n")


@pytest.mark.parametrize("arguments", [("sign", "dev"), ("--help",), ("completion", "bash")])
@pytest.mark.parametrize(
    ("redirect", "message"),
    [
        (">&-", "error: standard output: it is closed; redirect it to /dev/null if you do not need it\n"),
        (">/dev/full", "error: standard output: No space left on device\n"),
        ("| true; exit ${PIPESTATUS[0]}", ""),
    ],
)
def test_f46_standard_output_that_cannot_be_written_is_status_1(
    dev: Process, arguments: tuple[str, ...], redirect: str, message: str
) -> None:
    more = connection(dev) if "dev" in arguments else ()
    done = run(*arguments, *more, redirect=redirect)
    assert (done.returncode, done.stderr.decode()) == (1, message)


def test_f46_errors_that_nobody_can_read_do_not_change_the_status(dev: Process) -> None:
    assert run(*signed(dev), redirect="2>&-").returncode == 0
    for redirect in ("2>&-", "2>/dev/full"):
        assert run("sign", "dev", "--claims", "@none.json", redirect=redirect).returncode == 2


@pytest.mark.parametrize("columns", [40, 80])
def test_f47_kids_are_whole_on_a_narrow_terminal(dev: Process, columns: int) -> None:
    command = [SEALWRIGHT, "keys", "list", "dev", *connection(dev)]
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, columns))
    env = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}} | {"TERM": "xterm"}
    with subprocess.Popen(command, stdout=terminal, stderr=subprocess.PIPE, env=env) as running:  # noqa: S603 - ours
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the process has ended
            while part := os.read(controller, 4096):
                shown += part
        assert running.wait(30) == 0
    os.close(controller)
    listed = json.loads(run("keys", "list", "dev", *connection(dev), "--output", "json").stdout)
    assert len(listed) == 2
    for key in listed:
        assert key["kid"].encode() in shown
