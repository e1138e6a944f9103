"""What listeners do about strangers: connections that they close or refuse are counted, and the log names the sum once a minute."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from enum import StrEnum
from typing import Final

from sealwright import metrics

log = logging.getLogger(__name__)

_REPORT_SECONDS: Final = 60.0


class Shed(StrEnum):
    """Why a connection was closed or refused."""

    LIMIT = "limit"
    ADDRESS_LIMIT = "address_limit"
    SLOW = "slow"
    DESCRIPTORS = "descriptors"


class Shedding:
    """Counts what one listener sheds. A flood makes one line a minute in the log, whatever its size."""

    def __init__(self, listener: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._listener = listener
        self._clock = clock
        self._unreported: Counter[Shed] = Counter()
        self._reported = -_REPORT_SECONDS

    def count(self, reason: Shed) -> None:
        """Count one connection."""
        metrics.tally(metrics.CONNECTIONS_SHED, self._listener, reason.value).add()
        self._unreported[reason] += 1

    def report(self) -> None:
        """Log what has been shed since the last line, if that is long enough ago."""
        now = self._clock()
        if not self._unreported or now - self._reported < _REPORT_SECONDS:
            return
        counts = ", ".join(f"{n} {reason.value}" for reason, n in sorted(self._unreported.items()))
        log.warning("%s: connections of strangers were closed or refused: %s", self._listener, counts)
        self._unreported.clear()
        self._reported = now
