"""Files and functions stay short enough to read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("service", "providers", "testing", "tests", "examples", "benchmarks")
MAX_FILE, MAX_FUNCTION = 400, 60


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (p for p in (ROOT / folder).rglob("*.py") if "v1" not in p.parts)


def test_no_file_has_more_than_400_lines() -> None:
    assert {p: n for p in sources() if (n := len(p.read_text(encoding="utf-8").splitlines())) > MAX_FILE} == {}


def test_no_function_has_more_than_60_lines() -> None:
    long = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION:
                    long[f"{path}:{node.name}"] = lines
    assert long == {}
