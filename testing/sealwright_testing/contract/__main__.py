"""The command `python -m sealwright_testing.contract`: runs pytest on the given test files, then prints the matrix.

Its exit status and options are those of pytest. A skipped test fails the run: a harness declares what its provider cannot do.
With `--readme FILE` first, the run also fails if the table between the lines `<!-- contract -->` and `<!-- end -->` of the file is
not the table of this run.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from .matrix import Matrix

_TABLE = re.compile(r"<!-- contract -->\n(.*?)\n<!-- end -->", re.DOTALL)


def main() -> int:
    """Run pytest with the matrix plug-in."""
    arguments = sys.argv[1:]
    readme = None
    if arguments[:1] == ["--readme"]:
        readme, arguments = Path(arguments[1]), arguments[2:]
    matrix = Matrix()
    status = int(pytest.main(["-q", *arguments], plugins=[matrix]))
    if readme is not None and not _says(readme, matrix.readme()):
        sys.stdout.write(f"the table in {readme} is not that of this run, which is:\n")
        sys.stdout.write("\n".join(matrix.readme()) + "\n")
        return status or 1
    return status or int(bool(matrix.lost))


def _says(readme: Path, table: list[str]) -> bool:
    found = _TABLE.search(readme.read_text(encoding="utf-8"))
    return found is not None and found[1].strip().splitlines() == table


if __name__ == "__main__":
    raise SystemExit(main())
