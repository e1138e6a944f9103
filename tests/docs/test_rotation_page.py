"""docs/rotation.md and its picture are those of `keys/lifecycle.py` and the default settings."""

from __future__ import annotations

import importlib.util
import re
import xml.etree.ElementTree as ET
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sealwright.keys.lifecycle import Limits

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "rotation.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def drawing() -> Any:
    spec = importlib.util.spec_from_file_location("rotation_picture", DOCS / "pictures" / "rotation.py")
    assert spec
    assert spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, module)  # for its dataclasses
        spec.loader.exec_module(module)
    return module


def row(first: str) -> list[str]:
    """Return the cells of the row of a table that begins with a cell."""
    (line,) = (line for line in PAGE.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_i12_the_picture_is_what_its_script_draws(drawing: Any) -> None:
    svg = (DOCS / "pictures" / "rotation.svg").read_text(encoding="utf-8")
    assert svg == drawing.picture(), "run: python docs/pictures/rotation.py"
    titles = [t.text or "" for t in ET.fromstring(svg).iter("{http://www.w3.org/2000/svg}title")]  # noqa: S314 - ours
    assert {"key A ACTIVE", "key A RETIRED", "key B STANDBY", "key B ACTIVE", "key C STANDBY"} <= set(titles)


def test_i12_a_term_that_the_picture_does_not_show_is_found_out(drawing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tail = Limits.tail.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Limits, "tail", property(lambda limits: tail(limits) + timedelta(seconds=1)))
    with pytest.raises(ValueError, match="other terms"):
        drawing.picture()


def test_i12_the_waits_on_the_page_are_those_of_the_defaults(drawing: Any) -> None:
    given, policy = drawing.defaults()
    lead, least = drawing.words(given.lead(timedelta())), drawing.words(given.lead(policy.min_lead))
    assert row("lead")[-1] == f"{lead}, so `min_lead`: {least}"
    assert row("tail")[-1] == drawing.words(given.tail)
    assert row("scheduled wait")[-1] == drawing.words(given.scheduled_wait)
    terms = {
        "S": given.max_staleness,
        "A": given.max_age,
        "E": given.stale_if_error,
        "L": given.max_lifetime,
        "K": given.verifier_skew,
    }
    for name, value in terms.items():
        assert row(name)[2] == drawing.words(value)
    assert f"after that, which is {drawing.words(given.cache_age)} with the defaults" in PAGE.replace("\n   ", " ")
    assert f"3 keys for {given.tail // timedelta(minutes=1)} minutes" in PAGE


def test_i12_every_link_of_the_page_leads_somewhere() -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", PAGE):
        text = (DOCS / target).read_text(encoding="utf-8") if target.endswith(".md") else ""
        assert (DOCS / target).exists()
        headings = {
            re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
            for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
        }
        assert not anchor or anchor[1:] in headings, anchor
