"""The matrix: provider x algorithm x outcome, from the reports of a run of pytest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import IntEnum
from typing import Any, Final

import pytest

from sealwright.jose.algorithms import ALGORITHMS

from .case import CASE_PROPERTY, DECLARED_PROPERTY
from .harness import BY_ALGORITHM, Outcome

_HEAD: Final = 30
_CELL: Final = 5


class Result(IntEnum):
    """The result of a case. If several have the same name, the worst counts."""

    OK = 0
    DECLARED = 1
    FAILED = 2

    @property
    def cell(self) -> str:
        """The text in the matrix."""
        return ("ok", "decl.", "FAIL")[self]


_EXAMPLE: Final = "example"
_SIGNS: Final[Mapping[Result | None, str]] = {Result.OK: "yes", Result.DECLARED: "-", Result.FAILED: "FAILS", None: "-"}


class Matrix:
    """A pytest plug-in that prints the results of the contract."""

    def __init__(self) -> None:
        self.results: dict[tuple[str, str, str], Result] = {}
        self.reasons: dict[tuple[str, str], list[str]] = defaultdict(list)
        self.lost: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Record a report: of the test itself, or of a fixture that failed before or after it."""
        if report.when != "call" and report.passed:
            return
        properties: dict[str, Any] = dict(report.user_properties)
        case = properties.get(CASE_PROPERTY)
        if case is None:
            if not report.passed:
                self.lost.append(f"{report.nodeid} ({report.outcome})")
            return
        provider, outcome, algorithm = case
        declared = properties.get(DECLARED_PROPERTY)
        result = Result.FAILED
        if report.passed:
            result = Result.OK if declared is None else Result.DECLARED
        key = (provider, outcome, algorithm)
        self.results[key] = max(result, self.results.get(key, result))
        if result is Result.DECLARED:
            self.reasons[provider, str(declared)].append(f"{outcome} {algorithm}".strip())

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Print the matrix."""
        if self.results or self.lost:
            terminalreporter.section("provider contract")
            for line in self.lines():
                terminalreporter.line(line)

    def lines(self) -> Iterator[str]:
        """Return the matrix as text: a table per provider by algorithm, one for all providers, and the declarations."""
        providers = list(dict.fromkeys(provider for provider, _, _ in self.results))
        names = list(ALGORITHMS)
        for provider in providers:
            if not any((provider, outcome, name) in self.results for outcome in BY_ALGORITHM for name in names):
                continue
            yield _row(provider, names, names)
            for outcome in BY_ALGORITHM:
                yield _row(f"  {outcome}", names, (self._cell(provider, outcome, name) for name in names))
            yield ""
        whole = [outcome for outcome in Outcome if outcome not in BY_ALGORITHM]
        yield _row("whole provider", providers, providers)
        for outcome in whole:
            yield _row(f"  {outcome}", providers, (self._cell(provider, outcome, "") for provider in providers))
        if self.reasons:
            yield ""
            yield "declared impossible (decl.), tried, and failed as declared:"
        for (provider, reason), cases in self.reasons.items():
            yield f"  {provider}: {reason}: {_shortly(cases)}"
        counts = {result: sum(found is result for found in self.results.values()) for result in Result}
        yield ""
        yield ", ".join(f"{counts[result]} {result.name}" for result in Result)
        if self.lost:
            yield f"skipped, or failed outside the matrix: {len(self.lost)}, such as {self.lost[0]}"

    def readme(self) -> list[str]:
        """Return a table in Markdown: which algorithms sign on which server."""
        signing = (provider for provider, outcome, _ in self.results if outcome == Outcome.SIGN)
        servers = sorted({provider for provider in signing if provider != _EXAMPLE})
        rows = [f"| algorithm | {' | '.join(servers)} |", "|---" * (len(servers) + 1) + "|"]
        for name in ALGORITHMS:
            cells = (self.results.get((server, Outcome.SIGN, name)) for server in servers)
            rows.append(f"| {name} | {' | '.join(_SIGNS[cell] for cell in cells)} |")
        return rows

    def _cell(self, provider: str, outcome: str, algorithm: str) -> str:
        result = self.results.get((provider, outcome, algorithm))
        return "-" if result is None else result.cell


def _row(head: str, columns: Iterable[str], cells: Iterable[str]) -> str:
    widths: Mapping[str, int] = {column: max(len(column), _CELL) for column in columns}
    return f"{head:<{_HEAD}}" + " ".join(f"{c:<{w}}" for c, w in zip(cells, widths.values(), strict=True)).rstrip()


def _shortly(cases: list[str]) -> str:
    most = 4
    return ", ".join(cases[:most]) + (f" and {len(cases) - most} more" if len(cases) > most else "")
