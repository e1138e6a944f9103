"""How many calls a KMS gets at once and in a second, and who waits for a place.

The number follows what the KMS does. When it throttles or does not answer, it gets fewer calls at once, and then one more after
each round of answers (additive increase, multiplicative decrease: RFC 5681 §3.1), never more than `max_in_flight`. Callers take
turns in the queue, so that the flood of one does not push out the calls of another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from sealwright.clock import Clock

_DECREASE: Final = 0.7
_DECREASE_SECONDS: Final = 1.0
"""The answers to one burst count as one sign of throttling."""


_BURST_SECONDS: Final = 0.1
"""So much of its quota a worker may use at one instant."""


class QueueFullError(Exception):
    """There is no room in the queue, or it went to a caller that has less of it."""


class Pace:
    """Permits so many calls a second, evenly, with a small burst after a pause (GCRA: ITU-T I.371, annex A)."""

    def __init__(self, per_second: float, clock: Clock) -> None:
        """Prepare.

        Args:
            per_second: Calls a second of all workers together.
            clock: A stopwatch.
        """
        self._per_second = per_second
        self._clock = clock
        self._next = -_BURST_SECONDS
        self.share(1)

    def share(self, workers: int) -> None:
        """Take an equal part of the calls, because so many workers make them."""
        self._interval = workers / self._per_second
        self._burst = max(_BURST_SECONDS, self._interval)

    def take(self) -> bool:
        """Return whether a call may be made now, and count it."""
        now = self._clock.elapsed()
        then = max(self._next, now)
        if then + self._interval > now + self._burst:
            return False
        self._next = then + self._interval
        return True

    def wait(self) -> float:
        """Return the seconds until a call may be made."""
        now = self._clock.elapsed()
        return max(0.0, max(self._next, now) + self._interval - now - self._burst)


class Places:
    """The places of one provider."""

    def __init__(self, most: int, queue: int, clock: Clock, pace: Pace | None = None) -> None:
        """Prepare.

        Args:
            most: Most calls at once.
            queue: Most calls that wait.
            clock: For the pace of decreases.
            pace: Most calls in a second; None: any number.
        """
        self.pace = pace
        self._timer: asyncio.TimerHandle | None = None
        self._most = most
        self._queue = queue
        self._clock = clock
        self._limit = float(most)
        self._decreased = -_DECREASE_SECONDS
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._turns: deque[str] = deque()
        self.taken = 0
        self.waiting = 0

    @property
    def limit(self) -> int:
        """How many calls the KMS gets at once now."""
        return int(self._limit)

    def take(self) -> bool:
        """Take a place if one is free and nobody waits for it. `release` it afterwards."""
        if self.waiting or self.taken >= int(self._limit) or not (self.pace is None or self.pace.take()):
            return False
        self.taken += 1
        return True

    async def wait(self, caller: str, seconds: float) -> None:
        """Wait for a place. `release` it afterwards.

        Args:
            caller: Whose turn it takes.
            seconds: Longest wait.

        Raises:
            QueueFullError: Too many wait.
            TimeoutError: There was none in time.
        """
        if self.waiting >= self._queue:
            self._make_room(caller)
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        own = self._waiting.get(caller)
        if own is None:
            own = self._waiting[caller] = deque()
            self._turns.append(caller)
        own.append(place)
        self.waiting += 1
        if self.pace is not None:
            self._hand_over()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await place
        except BaseException:
            if not place.cancelled() and place.done() and place.exception() is None:
                self.release()  # It was given in the moment in which the caller left.
            elif place in own:
                own.remove(place)
                self.waiting -= 1
                self._forget(caller)
            raise

    def release(self) -> None:
        """Give a place back. The next caller in turn gets it."""
        self.taken -= 1
        if self._turns:
            self._hand_over()

    def _hand_over(self) -> None:
        """Give free places to those who wait, in turns."""
        while self._turns and self.taken < int(self._limit):
            if self.pace is not None and not self.pace.take():
                if self._timer is None:
                    self._timer = asyncio.get_running_loop().call_later(self.pace.wait(), self._in_time)
                return
            caller = self._turns.popleft()
            own = self._waiting[caller]
            place = own.popleft()
            self.waiting -= 1
            if own:
                self._turns.append(caller)
            else:
                del self._waiting[caller]
            if not place.done():
                self.taken += 1
                place.set_result(None)

    def _in_time(self) -> None:
        self._timer = None
        self._hand_over()

    def crowded(self) -> None:
        """Reduce how many calls the KMS gets at once, because it has refused one or not answered in time."""
        now = self._clock.elapsed()
        if now - self._decreased >= _DECREASE_SECONDS:
            self._decreased = now
            self._limit = max(1.0, self._limit * _DECREASE)

    def answered(self) -> None:
        """Let the KMS have more calls at once again."""
        if self._limit < self._most:
            self._limit = min(float(self._most), self._limit + 1 / self._limit)

    def _make_room(self, caller: str) -> None:
        """Refuse the newest call of the caller with most of the queue, if that is not the one that asks.

        Raises:
            QueueFullError: The caller has as much of the queue as anybody.
        """
        most = max(self._waiting, key=lambda name: len(self._waiting[name]), default=caller)
        if len(self._waiting.get(most, ())) <= len(self._waiting.get(caller, ())) + 1:
            raise QueueFullError
        newest = self._waiting[most].pop()
        self.waiting -= 1
        if not newest.done():
            newest.set_exception(QueueFullError())
        self._forget(most)

    def _forget(self, caller: str) -> None:
        if not self._waiting.get(caller, True):
            del self._waiting[caller]
            self._turns.remove(caller)


class RetryBudget:
    """Permits repeated calls up to a tenth of all calls, so that they do not double the load on a KMS that struggles."""

    _SHARE: Final = 0.1
    _MOST: Final = 10.0
    """So many may follow one another after a quiet time."""

    def __init__(self) -> None:
        self._saved = self._MOST

    def earn(self) -> None:
        """Count a call that is not a repetition."""
        self._saved = min(self._MOST, self._saved + self._SHARE)

    def spend(self) -> bool:
        """Return whether a call may be repeated, and count that."""
        if self._saved < 1:
            return False
        self._saved -= 1
        return True
