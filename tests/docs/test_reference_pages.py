"""The reference pages say what the code says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from sealwright import metrics
from sealwright.audit.records import EVENTS, FIELDS, OTHER_EVENTS, OUTCOMES
from sealwright.errors import InvalidRequestError, ProviderError, SealwrightError, ViolationsError

DOCS = Path(__file__).parent.parent.parent / "docs"


def rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table whose first heading is that, without back-ticks."""
    lines = (DOCS / page).read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {heading} |"))
    table = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return table


def test_the_audit_page_has_every_event_outcome_and_field() -> None:
    assert rows("audit-record.md", "event") == [[f"`{event}`", method] for method, event in EVENTS.items()]
    assert rows("audit-record.md", "other event") == [[f"`{event}`", text] for event, text in OTHER_EVENTS.items()]
    assert rows("audit-record.md", "outcome") == [[f"`{o.value}`", text] for o, text in OUTCOMES.items()]
    assert rows("audit-record.md", "field") == [[f"`{f.name}`", f.type, f.where, f.meaning] for f in FIELDS]


def test_the_metrics_page_has_every_metric_and_says_what_to_watch() -> None:
    found = rows("metrics.md", "metric")
    described = [
        [f"`{name}`", kind, ", ".join(f"`{label}`" for label in labels), text]
        for name, kind, labels, text in metrics.described()
    ]
    assert [row[:4] for row in found] == described
    assert all(re.search(r"\w", row[4]) for row in found)


def test_the_page_of_errors_has_every_reason_with_its_code() -> None:
    def leaves(base: type[SealwrightError]) -> Iterator[type[SealwrightError]]:
        for kind in base.__subclasses__():
            yield kind
            yield from leaves(kind)

    bases = (InvalidRequestError, ViolationsError, ProviderError)
    expected = {(k.code.value, f"`{k.reason}`") for k in leaves(SealwrightError) if k not in bases}
    assert {(row[0], row[1]) for row in rows("errors.md", "code")} == expected
