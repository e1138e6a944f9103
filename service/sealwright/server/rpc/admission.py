"""Refuses calls that would only wait, when more of them arrive than this worker has CPU for.

An overload has three signs. The event loop has no time to spare. Many calls are under way, and so many that each takes long: as
long as it takes to end so many (Little's law). Callers that keep a worker busy, each waiting for its answer, are no overload.

Then the number of calls under way is limited, and what exceeds it is refused before it costs anything. The limit falls to the least
that keeps the event loop busy: more would only wait for each other, and with less the KMS would be waited for. Callers share it:
one that has less than its share under way is always accepted. Those that are accepted share the turns of the event loop, caller by
caller (sealwright/turns.py), so that it soon comes to those that are refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from sealwright.errors import OverloadedError
from sealwright.threads import BusyTime
from sealwright.turns import Turns

BUSY: Final = 0.95
"""From this share of its time on, the event loop has none to spare."""
SPARE: Final = 0.9
"""Below this share, it has some. Other threads hold the interpreter's lock for a part of it."""
WINDOW_SECONDS: Final = 0.1
WINDOWS: Final = 2
"""So many windows must have all signs before any call is refused."""
WAIT_SECONDS: Final = 0.1
"""Calls that take longer take long."""
UNDER_WAY: Final = 128
"""So many calls must be under way. Fewer are served in a moment."""
MOST: Final = 4096
"""Calls under way, at which any other is refused: they wait for a KMS, and need memory."""
_LEAST: Final = 32
_DECREASE: Final = 0.75
_INCREASE: Final = 1.2
_GONE: Final = 1.25
"""Times the limit. While more calls are under way, those of before are on their way out."""
_CALLERS: Final = 1024
"""Most callers that are counted apart."""
_RETRY_SECONDS: Final = 1.0


def overload() -> OverloadedError:
    """Return the error of a call that is refused."""
    return OverloadedError("this replica has more calls than it can serve", retry_after=_RETRY_SECONDS)


class Admission:
    """Decides about calls before they are received."""

    def __init__(self, turns: Turns, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            turns: Learns whether there is an overload.
            clock: A stopwatch in seconds.
        """
        self._turns = turns
        self._clock = clock
        self._limit: float | None = None
        self._windows = 0
        self._under_way = 0
        self._of_caller: Counter[str] = Counter()
        self._asked: set[str] = set()
        self._share = 0.0
        self._refused = 0
        self._ended = 0

    @property
    def limited(self) -> bool:
        """Whether calls are being refused."""
        return self._limit is not None

    def admit(self, caller: Callable[[], str]) -> str | None:
        """Accept a call, and return what `leave` takes at its end; None: it is refused.

        Args:
            caller: Names who makes it. It is only asked in an overload.
        """
        if self._under_way >= MOST:
            self._refused += 1
            return None
        if self._limit is None:
            self._under_way += 1
            return ""
        name = caller()
        if name not in self._asked:
            if len(self._asked) >= _CALLERS:
                name = ""  # they share what one caller gets
            self._asked.add(name)
        if self._under_way >= self._limit and self._of_caller[name] >= self._share:
            self._refused += 1
            return None
        self._under_way += 1
        self._of_caller[name] += 1
        return name

    def leave(self, name: str) -> None:
        """Note that a call has ended.

        Args:
            name: What `admit` returned for it.
        """
        self._under_way -= 1
        self._ended += 1
        count = self._of_caller.get(name, 0)
        if count > 1:
            self._of_caller[name] = count - 1
        elif count:
            del self._of_caller[name]

    async def run(self) -> None:
        """Look at the event loop again and again."""
        with contextlib.closing(BusyTime()) as busy:
            before, then = busy.read(), self._clock()
            while True:
                await asyncio.sleep(WINDOW_SECONDS)
                seconds, now = busy.read(), self._clock()
                self.look((seconds - before) / (now - then), now - then)
                before, then = seconds, now

    def look(self, busy: float, seconds: float) -> None:
        """Adapt how many calls may be under way.

        Args:
            busy: The share of its time in which the event loop was busy.
            seconds: For how long.
        """
        long = self._under_way * seconds >= WAIT_SECONDS * self._ended
        signs = busy >= SPARE and long and self._under_way >= UNDER_WAY
        self._windows = self._windows + 1 if signs else 0
        if self._limit is None:
            if self._windows >= WINDOWS:
                self._limit = max(_LEAST, min(self._under_way / 2, self._ended / seconds * WAIT_SECONDS))
        elif busy < SPARE:
            self._limit = self._limit * _INCREASE if self._refused else None
        elif busy >= BUSY and self._under_way <= _GONE * self._limit:
            self._limit = max(_LEAST, self._limit * _DECREASE)
        self._turns.limited = self.limited
        self._refused = self._ended = 0
        self._share = 0.0 if self._limit is None else max(1.0, self._limit / max(1, len(self._asked)))
        self._asked = set(self._of_caller)
