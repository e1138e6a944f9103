"""Files and functions stay short enough to read in one go."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("service", "providers", "testing", "tests", "examples", "benchmarks")
OURS = frozenset({"sealwright", "sealwright_providers", "sealwright_testing", "support"})
EXCEPTIONS = {"providers/sealwright_providers/pkcs11/cryptoki.py: pkcs11._pkcs11"}
"""python-pkcs11 lets nobody else decide when a module is initialised: the class that does is in this module alone."""
MAX_FILE, MAX_FUNCTION = 400, 60


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (p for p in (ROOT / folder).rglob("*.py") if "v1" not in p.parts)


def test_no_file_has_more_than_400_lines() -> None:
    assert {p: n for p in sources() if (n := len(p.read_text(encoding="utf-8").splitlines())) > MAX_FILE} == {}


def test_no_private_name_of_another_project_is_imported() -> None:
    """The next release of the other project may not have it."""
    found = set()
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [part for alias in node.names for part in alias.name.split(".")]
            elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                names = [*node.module.split("."), *(alias.name for alias in node.names)]
            else:
                continue
            private = [n for n in names if n.startswith("_") and not n.startswith("__")]
            if private and names[0] not in OURS:
                found.add(f"{path.relative_to(ROOT)}: {'.'.join(names)}")
    assert found == EXCEPTIONS


def test_no_function_has_more_than_60_lines() -> None:
    long = {}
    for path in sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                lines = node.end_lineno - node.lineno + 1
                if lines > MAX_FUNCTION:
                    long[f"{path}:{node.name}"] = lines
    assert long == {}
