"""docs/commands.md names each command, option, environment variable and reason, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click

from sealwright.__main__ import main
from support.commands import leaves

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### `([^`]+)`\n(.*?)(?=^### |\Z)", PAGE, re.MULTILINE | re.DOTALL))
CONNECTIONS = PAGE.partition("## Connections")[2].partition("\n## ")[0]


def options(command: click.Command) -> Iterator[click.Option]:
    yield from (p for p in command.params if isinstance(p, click.Option))


ALL = {" ".join(words): command for words, command in leaves(main) if not command.hidden}


def test_f48_the_page_has_a_section_for_each_command() -> None:
    assert set(SECTIONS) == set(ALL)


def test_f48_the_page_names_each_option_and_no_other() -> None:
    shared = set(re.findall(r"^\| `(--[a-z-]+)`", CONNECTIONS, re.MULTILINE))
    for name, command in ALL.items():
        named = set(re.findall(r"^\| `(--[a-z-]+)`", SECTIONS[name], re.MULTILINE))
        if "(#connections)" in SECTIONS[name]:
            named |= shared
        assert named == {o for option in options(command) for o in option.opts}, name
        for argument in (p for p in command.params if isinstance(p, click.Argument)):
            assert (argument.metavar or argument.name or "").upper() in SECTIONS[name]


def test_f48_each_environment_variable_is_on_the_page_and_in_the_help() -> None:
    found = {}
    for command in ALL.values():
        for option in options(command):
            if option.envvar:
                assert option.show_envvar
                found[str(option.envvar)] = option.opts[0]
    assert len(found) == 5
    assert dict(re.findall(r"^\| `(--[a-z-]+)`[^|]*\| `(SEALWRIGHT_[A-Z_]+)`", CONNECTIONS, re.MULTILINE)) == {
        option: variable for variable, option in found.items()
    }
    assert set(re.findall(r"SEALWRIGHT_[A-Z_]+", PAGE)) == set(found)


def test_f48_the_page_names_each_reason_of_a_failed_connection() -> None:
    source = (ROOT / "service" / "sealwright" / "cli" / "diagnosis.py").read_text(encoding="utf-8")
    reasons = set(re.findall(r'"([A-Z]+(?:_[A-Z0-9]+)+)"', source))
    assert reasons == set(re.findall(r"^\| `([A-Z_]+)` \|", CONNECTIONS, re.MULTILINE))
