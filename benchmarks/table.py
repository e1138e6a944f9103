"""What was measured: rows of the table as they come, and the file in `results/`."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).with_name("results")
_LARGE = 1000


@dataclass
class Scale:
    """How long and how often to measure."""

    seconds: float
    rounds: int


@dataclass
class Results:
    """What was measured, as rows of the table and as JSON."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)

    def cpu_ratio(self, name: str, text: str, target: str, baseline: list[float], ours: list[float]) -> None:
        """Add a ratio of CPU: the baseline's over ours, in µs for a token."""
        self.values[name] = {"baseline_us": _short(baseline), "ours_us": _short(ours)}
        cpu = f"{statistics.median(baseline):.0f} / {statistics.median(ours):.0f} µs"
        self._ratio(name, (text, target, cpu), baseline, ours)

    def ratio(
        self, name: str, text: str, target: str, over: list[float], under: list[float], *, note: str = ""
    ) -> None:
        """Add a ratio of other figures."""
        self.values[name] = {"over": _short(over), "under": _short(under)}
        self._ratio(name, (text, target, note), over, under)

    def _ratio(self, name: str, words: tuple[str, str, str], over: list[float], under: list[float]) -> None:
        text, target, note = words
        each = [a / b for a, b in zip(over, under, strict=True)]
        middle = statistics.median(over) / statistics.median(under)
        self.ratios[name] = round(middle, 3)
        self._row(text, f"{middle:.2f} ({min(each):.2f} to {max(each):.2f})", target, note)

    def value(  # noqa: PLR0917 - the columns of the table
        self, name: str, text: str, target: str, value: float | Sequence[float], unit: str, note: str = ""
    ) -> None:
        """Add a figure, or the median of those of several rounds."""
        if isinstance(value, int | float):
            self.values[name] = value
            self._row(text, f"{_digits(value)} {unit}", target, note)
            return
        self.values[name] = _short(value)
        span = f"({_digits(min(value))} to {_digits(max(value))})"
        self._row(text, f"{_digits(statistics.median(value))} {span} {unit}", target, note)

    def header(self) -> None:
        """Print the head of the table."""
        print(f"{'figure':76} {'median (range)':28} {'target':10} note")

    def _row(self, *cells: str) -> None:
        text, value, target, note = cells
        self.rows.append((text, value, target, note))
        print(f"{text:76} {value:28} {target:10} {note}", flush=True)

    def write(self, load: str, *, merge: bool = False) -> Path:
        """Write the file of today, and return its path.

        Args:
            load: What made the load.
            merge: Keep what the file already has of other figures.
        """
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"{datetime.now(UTC):%Y-%m-%d}.json"
        before = json.loads(path.read_text()) if merge and path.exists() else {"ratios": {}, "values": {}}
        document = {
            "machine": machine(),
            "load": load,
            "ratios": before["ratios"] | self.ratios,
            "values": before["values"] | self.values,
        }
        path.write_text(json.dumps(document, indent=1) + "\n")
        return path


def machine() -> str:
    """Return on what this runs."""
    model = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return f"{os.cpu_count()} CPUs, {model}, Python {platform.python_version()}"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= _LARGE else f"{value:.3g}"


def _short(values: Sequence[float]) -> list[float]:
    return [float(f"{v:.5g}") for v in values]
