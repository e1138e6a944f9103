"""The order of all tests, and in which processes their coverage is measured.

Those that take longest start first, so that no worker is left alone with them at the end.
"""

from __future__ import annotations

import gc
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import settings

# A busy machine is not a failure: no test asserts a time.
settings.register_profile("sealwright", deadline=None)
settings.load_profile("sealwright")

_TESTS: Final = Path(__file__).parent
_SLOW: Final = ("faults", "soak", "packaging", "service", "contract", "interop", "cli")
"""Directories whose tests start processes, the slowest first."""
_MEASURED: Final = ("service", "cli")
"""Directories whose processes are measured."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort the files, and leave the order inside each as it is."""
    longest: defaultdict[Path, float] = defaultdict(float)
    for item in items:
        marker = item.get_closest_marker("timeout")
        if marker is not None:
            longest[item.path] = max(longest[item.path], float(marker.args[0]))
    items.sort(key=lambda item: (-longest[item.path], _rank(item.path)))


def pytest_collection_finish() -> None:
    """Keep the garbage collector away from all modules and tests, through which it would walk again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="module")
def _processes_start_quickly(request: pytest.FixtureRequest) -> Iterator[None]:
    """Measure coverage in processes only where it tells something new: it makes each of them take three times as long to start."""
    with pytest.MonkeyPatch.context() as patch:
        if _directory(request.path) not in _MEASURED:
            patch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)
        yield


def _rank(path: Path) -> int:
    directory = _directory(path)
    return _SLOW.index(directory) if directory in _SLOW else len(_SLOW)


def _directory(path: Path) -> str:
    return path.relative_to(_TESTS).parts[0]
