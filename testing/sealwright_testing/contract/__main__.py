"""The command `python -m sealwright_testing.contract`: runs pytest on the given test files, then prints the matrix.

Its exit status and options are those of pytest. A skipped test fails the run: a harness declares what its provider cannot do.
"""

from __future__ import annotations

import sys

import pytest

from .matrix import Matrix


def main() -> int:
    """Run pytest with the matrix plug-in."""
    matrix = Matrix()
    status = int(pytest.main(["-q", *sys.argv[1:]], plugins=[matrix]))
    return status or int(bool(matrix.lost))


if __name__ == "__main__":
    raise SystemExit(main())
