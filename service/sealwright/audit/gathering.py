"""How long records gather before the next sync of the audit file."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from sealwright.threads import BusyTime

LONGEST_SECONDS: Final = 0.008
_WINDOW_SECONDS: Final = 0.05
"""So often it is asked how busy the process is."""
QUIET: Final = 0.85
"""Up to this share of its time, records do not gather."""
BUSY: Final = 0.95
"""From this share on, they gather for the longest time."""
BESIDE: Final = 0.1
"""So much of a processor other threads may use beside a loop that is busy, before they gather."""


class Gathering:
    """Trades latency for CPU time. A sync costs several times the CPU time of everything else about a record.

    A caller that is alone never waits, and while the event loop has time to spare nobody does: records only share the sync that
    comes after the one under way. When there is none to spare they gather for up to eight milliseconds: then a call waits for its
    turn anyway, and each sync that is saved shortens the queue (docs/performance.md).

    A worker is meant for one processor. So records also gather when all its threads together use more than one: with a token that
    computes in this process, or syncs without end, the event loop mostly waits.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        loop: BusyTime | None = None,
        processor: Callable[[], float] = time.process_time,
    ) -> None:
        """Prepare.

        Args:
            clock: A stopwatch in seconds.
            loop: How long the event loop's thread ran or waited for a processor; None: the thread that asks first.
            processor: The seconds of a processor that the whole process has used.
        """
        self._clock = clock
        self._loop = loop
        self._processor = processor
        self._before: tuple[float, float, float] | None = None
        self._share = 0.0

    def seconds(self, under_way: int) -> float:
        """Return how long to wait before the next sync. Only the event loop's thread may ask.

        Args:
            under_way: How many decisions are open. Their records are about to come.
        """
        if under_way <= 1:
            return 0.0
        now = self._clock()
        if self._before is None or now - self._before[0] >= _WINDOW_SECONDS:
            self._look(now)
        return LONGEST_SECONDS * min(max((self._share - QUIET) / (BUSY - QUIET), 0.0), 1.0)

    def _look(self, now: float) -> None:
        if self._loop is None:
            self._loop = BusyTime()
        busy, used = self._loop.read(), self._processor()
        if self._before is not None:
            then, busy_then, used_then = self._before
            self._share = max((busy - busy_then) / (now - then), (used - used_then) / (now - then) - BESIDE)
        self._before = now, busy, used

    def close(self) -> None:
        """Ask no more."""
        if self._loop is not None:
            self._loop.close()
