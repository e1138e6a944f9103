"""docs/security.md names each file of tests/faults, and no other."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_page_names_each_file_of_tests_faults() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`(test_[a-z0-9_]+\.py)`", page.partition("## What the tests try")[2]))
    assert named == {path.name for path in (ROOT / "tests" / "faults").glob("test_*.py")}
