"""Refuses calls that would only wait, when more of them arrive than this worker has CPU for.

gRPC hands over one call in each turn of the event loop, and keeps the others in a queue that nobody sees. So an overload has three
signs. The event loop has no time to spare. Each call has waited: it has less time left than such calls of its connection usually
have (CoDel's rule, RFC 8289 §3: even the shortest wait is long). And many wait: callers that keep a worker busy, each waiting for
its answer, are no overload. A queue cannot grow faster than time passes, so a wait that jumps is none: it is another deadline.

Then some calls are refused before they cost anything, as many as it takes for the others not to wait any longer. Callers share
what can be served: one that asks for less than its share gets all of it (max-min fairness).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from sealwright.errors import OverloadedError

BUSY: Final = 0.85
"""Below this share of its time, the event loop has some to spare. Other threads hold the interpreter's lock for the rest."""
WINDOW_SECONDS: Final = 0.1
WINDOWS: Final = 2
"""So many windows must have all signs before any call is refused."""
WAIT_SECONDS: Final = 0.1
"""A shortest wait that is too long."""
WAITING: Final = 128
"""So many calls must be waiting: the shortest wait times the calls a second (Little's law). Fewer are served in a moment."""
_REMEMBERED_SECONDS: Final = 10.0
"""For at least so long, and at most twice, it is remembered how much time such calls of a connection have."""
_SHORT_SECONDS: Final = 0.02
"""A shortest wait up to which more calls may be accepted again."""
_FIRST: Final = 0.7
_DECREASE: Final = 0.9
_INCREASE: Final = 1.1
_FLOOR: Final = 0.25
"""Share of what was accepted before the overload that is accepted in any case: a queue takes a while to go."""
_LEAST: Final = 100.0
"""Calls a second that are accepted, however busy the event loop is."""
_CALLERS: Final = 1024
"""Most callers that are counted apart."""
_CONNECTIONS: Final = 4096
"""Most connections and methods whose calls show how long they waited."""
_RETRY_SECONDS: Final = 1.0
_LINE: Final = 128
"""Bytes that the line of a thread has at most."""


def overload() -> OverloadedError:
    """Return the error of a call that is refused."""
    return OverloadedError("this replica has more calls than it can serve", retry_after=_RETRY_SECONDS)


class BusyTime:
    """How long a thread has run or has waited for a processor, from `/proc/[pid]/schedstat` (Linux, sched-stats.rst)."""

    def __init__(self, clock: Callable[[], float] = time.thread_time) -> None:
        """Watch the calling thread.

        Args:
            clock: Its CPU time in seconds, for systems that do not count the waiting.
        """
        self._clock = clock
        self._file: int | None = None
        with contextlib.suppress(OSError):
            self._file = os.open(f"/proc/self/task/{threading.get_native_id()}/schedstat", os.O_RDONLY)

    def read(self) -> float:
        """Return the seconds since the start of the thread. It must be the calling one."""
        if self._file is None:
            return self._clock()
        run, wait, _ = os.pread(self._file, _LINE, 0).split()
        return (int(run) + int(wait)) / 1e9

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class Admission:
    """Decides about calls before they are received."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Prepare.

        Args:
            clock: A stopwatch in seconds.
        """
        self._clock = clock
        self._rate: float | None = None
        self._usual: dict[tuple[str, str], float] = {}
        self._usual_before: dict[tuple[str, str], float] = {}
        self._forget = clock() + _REMEMBERED_SECONDS
        self._shortest = math.inf
        self._noted = 0
        self._wait = 0.0
        self._possible = 0.0
        self._floor = _LEAST
        self._windows = 0
        self._admitted = 0
        self._offered: Counter[str] = Counter()
        self._level = 0.0
        self._shares: dict[str, float] = {}
        self._credits: dict[str, float] = {}

    @property
    def limited(self) -> bool:
        """Whether calls are being refused."""
        return self._rate is not None

    def refusal(self, caller: Callable[[], str]) -> OverloadedError | None:
        """Return the error to answer a call with; None: it is accepted.

        Args:
            caller: Names who makes it. It is only asked in an overload.
        """
        if self._rate is not None and not self._admits(caller()):
            return overload()
        self._admitted += 1
        return None

    def note(self, connection: str, method: str, left: float) -> None:
        """Note how long a call has waited in gRPC.

        Args:
            connection: Where it comes from.
            method: What it calls. Clients have deadlines by method.
            left: Seconds until its caller's deadline.
        """
        kind = (connection, method)
        usual = self._usual.get(kind)
        if usual is None:
            usual = self._usual_before.get(kind)
            if len(self._usual) < _CONNECTIONS:
                self._usual[kind] = left if usual is None else max(usual, left)
        elif left > usual:
            self._usual[kind] = left
        if usual is None or left > usual:
            return
        self._shortest = min(self._shortest, usual - left)
        self._noted += 1

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
        """Adapt how many calls are accepted.

        Args:
            busy: The share of its time in which the event loop was busy.
            seconds: For how long.
        """
        admitted = self._admitted / seconds
        self._possible += seconds
        wait = self._shortest if self._shortest <= self._possible else 0.0
        if self._shortest <= self._possible:
            self._possible = wait
        waiting = wait * self._noted / seconds
        signs = busy >= BUSY and wait >= WAIT_SECONDS and waiting >= WAITING
        self._windows = self._windows + 1 if signs else 0
        if self._rate is None:
            if self._windows >= WINDOWS:
                self._floor = max(admitted * _FLOOR, _LEAST)
                self._rate = max(admitted * _FIRST, self._floor)
        elif wait > _SHORT_SECONDS:
            if wait > _DECREASE * self._wait:  # else the queue is on its way out
                self._rate = max(self._rate * _DECREASE, self._floor)
        else:
            nobody = self._admitted >= self._offered.total()
            self._rate = None if nobody else self._rate * _INCREASE
        self._wait = wait
        self._share(self._rate * seconds if self._rate is not None else 0.0)
        self._admitted = 0
        self._offered.clear()
        self._shortest, self._noted = math.inf, 0
        if self._clock() >= self._forget:
            self._usual_before, self._usual = self._usual, {}
            self._forget = self._clock() + _REMEMBERED_SECONDS

    def _admits(self, caller: str) -> bool:
        name = caller if caller in self._offered or len(self._offered) < _CALLERS else ""
        self._offered[name] += 1
        share = self._shares.get(name)
        if share is None:  # new in this window
            return self._offered[name] <= max(self._level, 1.0)
        credit = self._credits[name] + share
        if credit < 1:
            self._credits[name] = credit
            return False
        self._credits[name] = credit - 1
        return True

    def _share(self, calls: float) -> None:
        """Divide so many calls of the next window among those who asked for any in the last one."""
        self._level, left = calls, len(self._offered)
        for asked in sorted(self._offered.values()):
            self._level = calls / left
            if asked > self._level:
                break
            calls -= asked
            left -= 1
        self._shares = {name: min(1.0, self._level / asked) for name, asked in self._offered.items()}
        self._credits = {name: self._credits.get(name, 0.5) for name in self._shares}
