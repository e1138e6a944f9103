"""Time as a port, so that tests can control it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A wall clock, and a stopwatch that keeps running while the machine is suspended."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        ...

    def elapsed(self) -> float:
        """Return seconds since a fixed instant. The value never decreases, and it counts suspended time."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """Return CLOCK_BOOTTIME, in seconds: unlike CLOCK_MONOTONIC it counts suspended time (clock_gettime(2))."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
