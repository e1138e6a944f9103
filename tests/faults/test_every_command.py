"""Every command in every locale, on a narrow terminal, and with standard output closed or full.

The names of the issuer's files have letters that are not ASCII. A command that is new fails here until it has a line in `COMMANDS`.
"""

from __future__ import annotations

import functools
import os
import pty
import subprocess
import termios
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from sealwright.__main__ import main
from support.commands import leaves
from support.document import document, issuer, tool_missing
from support.locales import made_locales
from support.processes import BIN, process, write_config

SEALWRIGHT = str(BIN / "sealwright")
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "completion": ("bash",),
    "config check": ("{config}",),
    "db upgrade": ("--config", "{config}"),
    "dev": ("--provider", "none"),
    "doctor": ("--config", "{config}"),
    "jwks": ("payments", "{connection}"),
    "keys list": ("payments", "{connection}"),
    "keys orphans": ("--config", "{config}"),
    "keys revoke": ("payments", "--provider", "aws", "--reason", "Prüfung", "--dry-run", "{connection}"),
    "keys rotate": ("payments", "--dry-run", "{connection}"),
    "keys unblock": ("aws", "--config", "{config}"),
    "replicas": ("--config", "{config}"),
    "serve": ("--config", "{directory}/fehlt.toml"),
    "sign": ("payments", "--subject", "Zoë", "{connection}"),
    "store accept": ("--config", "{config}"),
    "store backup": ("--config", "{config}", "{new}"),
    "store check": ("--config", "{config}"),
    "store copy": ("--config", "{config}", "{new}"),
    "verify": ("payments", "no-token", "{connection}"),
}
"""Arguments by command. `dev` and `serve` run until they are stopped, so here they get something wrong."""
LOCALES = ("C", "POSIX", "ASCII", "Latin-1")
Usual = Callable[[str], tuple[int, str, str]]


@dataclass(frozen=True)
class Place:
    """A service that runs, and how to reach it."""

    directory: Path
    config: str
    address: str

    def arguments(self, command: str, new: str) -> list[str]:
        found: list[str] = command.split()
        for argument in COMMANDS[command]:
            if argument == "{connection}":
                found += ["--plaintext", "--address", self.address]
            else:
                found.append(argument.format(config=self.config, directory=self.directory, new=self.directory / new))
        return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("Prüfung")
    with process(directory, "sealwright-emulator", "aws", "--port", "0") as kms:
        config = write_config(directory, document(directory, kms.ready["endpoint"], issuer()))
        with process(directory, "sealwright", "serve", "--config", config) as service:
            yield Place(directory, str(config), service.ready["grpc"])


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    return made_locales(tmp_path_factory.mktemp("locales"))


def environment(more: Mapping[str, str]) -> dict[str, str]:
    left_out = ("LC_", "LANG", "PYTHONIOENCODING", "PYTHONUTF8", "COLUMNS", "LINES")
    return {k: v for k, v in os.environ.items() if not k.startswith(left_out)} | dict(more)


def run(place: Place, command: str, new: str, env: Mapping[str, str], redirect: str = "") -> tuple[int, str, str]:
    """Run a command. Return its status, and what it wrote to standard output and error."""
    words = [SEALWRIGHT, *place.arguments(command, new)]
    if redirect:
        words = ["/bin/bash", "-c", f'"$0" "$@" {redirect}', *words]
    done = subprocess.run(  # noqa: S603 - our own command
        words, check=False, capture_output=True, timeout=120, stdin=subprocess.DEVNULL, env=environment(env)
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.fixture(scope="module")
def usual(place: Place) -> Usual:
    """Return what a command says in a usual environment. It is asked once."""
    return functools.cache(lambda command: run(place, command, f"{command}-usual.db", {"LC_ALL": "C.UTF-8"}))


def test_every_command_is_tried() -> None:
    assert {" ".join(words) for words, command in leaves(main) if not command.hidden} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_f46_a_command_says_the_same_in_every_locale(
    place: Place, locales: dict[str, dict[str, str]], usual: Usual, command: str
) -> None:
    expected, out, errors = usual(command)
    assert out + errors
    assert expected in {0, 1, 2}
    assert "Traceback" not in errors
    for name in LOCALES:
        if name not in locales:
            tool_missing("the source of the locale en_US")
        status, seen, problems = run(place, command, f"{command}-{name}.db", locales[name])
        assert (name, status) == (name, expected)
        assert (name, bool(seen), len(problems.splitlines())) == (name, bool(out), len(errors.splitlines()))
        assert "Traceback" not in problems


@pytest.mark.parametrize("command", COMMANDS)
def test_f47_a_command_works_on_a_narrow_terminal(place: Place, usual: Usual, command: str) -> None:
    expected = usual(command)[0]
    controller, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 20))
    words = [SEALWRIGHT, *place.arguments(command, f"{command}-narrow.db")]
    with subprocess.Popen(  # noqa: S603 - our own command
        words, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal, env=environment({"TERM": "xterm"})
    ) as running:
        os.close(terminal)
        shown = b""
        with open(controller, "rb", buffering=0) as screen:  # noqa: PTH123 - a descriptor
            try:
                while part := screen.read(4096):
                    shown += part
            except OSError:
                pass  # The other end was closed (EIO).
        status = running.wait(60)
    assert status == expected
    assert shown.decode()
    assert b"Traceback" not in shown


@pytest.mark.parametrize("redirect", [">&-", ">/dev/full"])
@pytest.mark.parametrize("command", COMMANDS)
def test_f46_a_command_says_that_it_cannot_write(place: Place, usual: Usual, command: str, redirect: str) -> None:
    expected, out, _ = usual(command)
    status, _, errors = run(place, command, f"{command}-{len(redirect)}.db", {"LC_ALL": "C.UTF-8"}, redirect)
    assert status in ({1} if out else {1, expected})
    assert "Traceback" not in errors
    assert not out or "error: standard output:" in errors
