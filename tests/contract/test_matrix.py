from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sealwright.jose.algorithms import ALGORITHMS
from sealwright_testing.contract.case import CASE_PROPERTY, DECLARED_PROPERTY
from sealwright_testing.contract.matrix import Matrix


def report(*case: str, outcome: str = "passed", when: str = "call", declared: str | None = None) -> Any:
    properties: list[tuple[str, object]] = [(CASE_PROPERTY, case)] if case else []
    if declared is not None:
        properties.append((DECLARED_PROPERTY, declared))
    return SimpleNamespace(
        nodeid="test_mine.py::test",
        when=when,
        outcome=outcome,
        passed=outcome == "passed",
        user_properties=properties,
    )


def matrix(*reports: Any) -> list[str]:
    found = Matrix()
    for one in reports:
        found.pytest_runtest_logreport(one)
    return list(found.lines())


def test_cells_are_by_provider_algorithm_and_outcome() -> None:
    lines = matrix(
        report("mine", "sign", "RS256"),
        report("mine", "sign", "RS384", declared="no such hash"),
        report("mine", "sign", "RS512", outcome="failed"),
        report("mine", "check", ""),
    )
    assert lines[0].split()[:3] == ["mine", "RS256", "RS384"]
    assert next(line for line in lines if line.startswith("  sign")).split() == [
        "sign", "ok", "decl.", "FAIL", *["-"] * (len(ALGORITHMS) - 3)
    ]  # fmt: skip
    assert "  check                       ok" in lines
    assert "  mine: no such hash: sign RS384" in lines
    assert "2 OK, 1 DECLARED, 1 FAILED" in lines


def test_the_worst_of_one_case_counts() -> None:
    failed = report("mine", "check", "", outcome="failed", when="teardown")
    assert "0 OK, 0 DECLARED, 1 FAILED" in matrix(report("mine", "check", ""), failed)
    assert "0 OK, 0 DECLARED, 1 FAILED" in matrix(failed, report("mine", "check", ""))


def test_what_is_skipped_is_said() -> None:
    lines = matrix(report("mine", "check", ""), report(outcome="skipped", when="setup"))
    assert lines[-1] == "skipped, or failed outside the matrix: 1, such as test_mine.py::test (skipped)"
