"""How long records gather before the next sync of the audit file."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

LONGEST_SECONDS: Final = 0.008
_WINDOW_SECONDS: Final = 0.05
"""So often the process is asked how busy it is."""
QUIET: Final = 0.85
"""Up to this share of a processor, records do not gather."""
BUSY: Final = 0.95
"""From this share on, they gather for the longest time."""


class Gathering:
    """Trades latency for CPU time. A sync costs several times the CPU time of everything else about a record.

    A caller that is alone never waits, and while the process has time to spare nobody does: records only share the sync that comes
    after the one under way. When there is none to spare they gather for up to eight milliseconds: then a call waits for its turn
    anyway, and each sync that is saved shortens the queue (docs/performance.md).
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, processor: Callable[[], float] = time.process_time
    ) -> None:
        """Prepare.

        Args:
            clock: A stopwatch in seconds.
            processor: The seconds of a processor that this process has used.
        """
        self._clock = clock
        self._processor = processor
        self._since = clock()
        self._used = processor()
        self._share = 0.0

    def seconds(self, under_way: int) -> float:
        """Return how long to wait before the next sync.

        Args:
            under_way: How many decisions are open. Their records are about to come.
        """
        if under_way <= 1:
            return 0.0
        now = self._clock()
        passed = now - self._since
        if passed >= _WINDOW_SECONDS:
            used = self._processor()
            self._share = (used - self._used) / passed
            self._since, self._used = now, used
        return LONGEST_SECONDS * min(max((self._share - QUIET) / (BUSY - QUIET), 0.0), 1.0)
