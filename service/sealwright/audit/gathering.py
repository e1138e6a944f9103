"""How long records gather before the next sync of the audit file."""

from __future__ import annotations

import time
from typing import Final

SHORT_SECONDS: Final = 0.001
LONG_SECONDS: Final = 0.004
_WINDOW_SECONDS: Final = 0.05
_QUIET: Final = 0.5
_BUSY: Final = 0.8


class Gathering:
    """Trades latency for CPU time. A sync costs several times the CPU time of everything else about a record.

    A caller that is alone never waits. With several calls under way, records gather for a millisecond. The busier the process, the
    longer they gather, up to four milliseconds: then a call waits for its turn anyway, and each sync that is saved shortens the
    queue (docs/performance.md).
    """

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._cpu = time.process_time()
        self._share = 0.0

    def seconds(self, under_way: int) -> float:
        """Return how long to wait before the next sync.

        Args:
            under_way: How many decisions are open. Their records are about to come.
        """
        if under_way <= 1:
            return 0.0
        now = time.monotonic()
        passed = now - self._since
        if passed >= _WINDOW_SECONDS:
            cpu = time.process_time()
            self._share = (cpu - self._cpu) / passed
            self._since, self._cpu = now, cpu
        busy = min(max((self._share - _QUIET) / (_BUSY - _QUIET), 0.0), 1.0)
        return SHORT_SECONDS + busy * (LONG_SECONDS - SHORT_SECONDS)
