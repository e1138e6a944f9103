"""Time as a port, so that tests can control it."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


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


def boot_id() -> str:
    """Return the kernel's name of this start of the machine (random(4)), since which CLOCK_BOOTTIME counts; empty: unknown."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""
