"""The order of all tests: those that take longest start first, so that no worker is left alone with them at the end."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Final

import pytest

_TESTS: Final = Path(__file__).parent
_SLOW: Final = ("faults", "soak", "packaging", "service", "contract", "interop", "cli")
"""Directories whose tests start processes, the slowest first."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files, and leave the order inside each as it is."""
    longest: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        marker = item.get_closest_marker("timeout")
        if marker is not None:
            longest[item.path] = max(longest[item.path], float(marker.args[0]))
    items.sort(key=lambda item: (-longest[item.path], _rank(item.path)))


def _rank(path: Path) -> int:
    directory = path.relative_to(_TESTS).parts[0]
    return _SLOW.index(directory) if directory in _SLOW else len(_SLOW)
