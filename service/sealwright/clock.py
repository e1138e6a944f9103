"""Time as a port, so that tests can move it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """A wall clock, and a stopwatch that goes on while the machine sleeps."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        ...

    def elapsed(self) -> float:
        """Return seconds since some fixed instant; never goes back, and counts suspended time."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the time of day, in UTC."""
        return datetime.now(UTC)

    def elapsed(self) -> float:
        """Return CLOCK_BOOTTIME, in seconds: unlike CLOCK_MONOTONIC it counts suspended time (clock_gettime(2))."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)
