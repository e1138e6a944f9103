"""docs/architecture.md names what exists."""

from __future__ import annotations

import pkgutil
import re
import tomllib
from dataclasses import fields
from pathlib import Path

from sealwright.keys.lifecycle import Key, KeyState

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
SOURCES = ("", "service/sealwright", "providers/sealwright_providers", "docs")


def section(heading: str) -> str:
    """Return the text below a heading."""
    return PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def exists(path: str) -> bool:
    return any((ROOT / source / path).exists() for source in SOURCES)


def test_every_file_and_folder_that_the_page_names_exists() -> None:
    paths = set(re.findall(r"`((?:[\w.-]+/)+[\w.-]*|[\w-]+\.(?:py|md|toml))`", PAGE))
    paths |= set(re.findall(r"((?:\w+/)*\w+\.py)", PAGE))
    assert len(paths) > 40
    assert {p for p in paths if not exists(p)} == set()


def test_every_link_leads_somewhere() -> None:
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert {link for link in links if not (ROOT / "docs" / link).exists()} == set()


def test_every_name_in_the_table_of_words_exists() -> None:
    names = re.findall(r"`((?:\w+\.)+\w+)`", section("Words"))
    assert len(names) > 10
    for name in names:
        prefix = "sealwright" if name[0].islower() else "sealwright.keys.lifecycle"
        assert pkgutil.resolve_name(f"{prefix}.{name}"), name


def test_the_picture_of_a_key_s_life_has_every_state_and_time() -> None:
    picture = section("A key's life")
    assert set(re.findall(r"\b[A-Z]{6,}\b", picture)) == {s.value for s in KeyState}
    times = {f.name for f in fields(Key) if f.name.endswith("_time")}
    assert times <= set(re.findall(r"\w+_time\b", picture))


def test_the_layers_are_those_that_import_linter_checks() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    checked = next(c["layers"] for c in contracts if c["type"] == "layers")
    rows = re.findall(r"^\| (`.*?) \| ", section("Who may import whom"), flags=re.MULTILINE)
    shown = [set(re.findall(r"`(\w+)`", row)) for row in rows]
    expected = [set(re.split(r"\W+", layer)) for layer in checked]
    assert expected[0] | expected[1] == shown[0]  # the commands
    assert expected[2:] == shown[1:]


def test_the_page_says_where_at_least_twelve_changes_go() -> None:
    rows = re.findall(r"^\| (?!to add|---)(.+?) \| (.+?) \|$", section("To change X, touch Y"), flags=re.MULTILINE)
    assert len(rows) >= 12
