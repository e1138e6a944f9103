"""A limit on records of refused calls, so that a caller without any right cannot fill the disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sealwright.clock import Clock

_WINDOW: Final = 60.0
_MAX_CALLERS: Final = 1024
"""Callers that are counted apart. All others share one count."""
_OTHERS: Final = "others"


@dataclass(slots=True)
class _Window:
    end: float
    recorded: int = 0
    omitted: int = 0


class RefusalLimit:
    """Counts refused calls by caller and minute."""

    def __init__(self, per_minute: int, clock: Clock) -> None:
        self._per_minute = per_minute
        self._clock = clock
        self._windows: dict[str, _Window] = {}

    def admits(self, caller: str) -> bool:
        """Return whether one more refusal of a caller gets a record of its own, and count it."""
        now = self._clock.elapsed()
        window = self._windows.get(caller)
        if window is None:
            name = caller if len(self._windows) < _MAX_CALLERS else _OTHERS
            window = self._windows.setdefault(name, _Window(now + _WINDOW))
        if window.recorded < self._per_minute:
            window.recorded += 1
            return True
        window.omitted += 1
        return False

    def omits(self, caller: str) -> bool:
        """Return whether a caller has had all of its records. Only then this counts its refusal; otherwise `admits` will."""
        window = self._windows.get(caller)
        if window is None or window.recorded < self._per_minute:
            return False
        window.omitted += 1
        return True

    def over(self) -> list[tuple[str, int]]:
        """Forget the minutes that are over. Return the callers that had refusals without a record, with their number."""
        now = self._clock.elapsed()
        ended = [(caller, w) for caller, w in self._windows.items() if w.end <= now]
        for caller, _ in ended:
            del self._windows[caller]
        return [(caller, w.omitted) for caller, w in ended if w.omitted]
