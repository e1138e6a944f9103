"""The command `python -m sealwright_testing.contract`: pytest on the test files that are named, and the matrix after it.

Its exit status is pytest's, and so is every option. A test that is skipped fails the run: what a provider cannot do is declared.
"""

from __future__ import annotations

import sys

import pytest

from .matrix import Matrix


def main() -> int:
    """Run pytest with the matrix."""
    matrix = Matrix()
    status = int(pytest.main(["-q", *sys.argv[1:]], plugins=[matrix]))
    return status or int(bool(matrix.lost))


if __name__ == "__main__":
    raise SystemExit(main())
