"""The index of numbers in tests/README.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<=_)[cf][0-9]{2,3}(?=_)")
ROW = re.compile(r"^\| ([cf][0-9]{2,3}) \|", re.MULTILINE)


def numbers_in_names() -> Iterator[str]:
    """Yield the numbers in the names of all tests."""
    for path in TESTS.rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield from NUMBER.findall(node.name)


def rows() -> list[str]:
    return ROW.findall((TESTS / "README.md").read_text())


def test_every_number_in_a_test_name_has_a_row_in_the_index() -> None:
    assert set(numbers_in_names()) - set(rows()) == set(), "add a row to tests/README.md for each of these"


def test_every_row_of_the_index_has_a_test() -> None:
    assert set(rows()) - set(numbers_in_names()) == set(), "no test has these numbers: remove their rows"


def test_the_rows_are_sorted_and_unique() -> None:
    assert rows() == sorted(set(rows()), key=lambda number: (number[0], int(number[1:])))
