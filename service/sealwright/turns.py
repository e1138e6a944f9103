"""Keeps the turns of the event loop short.

In an overload each turn finds many calls to go on with, and a call that is refused waits for the end of the turn in which it
arrives. A signature has two parts that take long: up to the call to the KMS, and from its answer to the audit record. A batch has
many signatures to begin, and nothing to wait for in those that are refused.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

PASSES: Final = 1
"""Parts that run in a turn. With more of them refusals waited longer, and no more tokens were signed."""
SLICE_SECONDS: Final = 0.01
"""How long the parts of batches may take in a turn, before the last of them."""


class _Waiting:
    """Parts that wait, by caller. Callers take turns, so that one with many parts delays those of another by one each."""

    def __init__(self) -> None:
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._queues)

    def add(self, caller: str) -> asyncio.Future[None]:
        """Return what ends when it is the turn of a part."""
        future = asyncio.get_running_loop().create_future()
        self._queues.setdefault(caller, deque()).append(future)
        return future

    def grant(self) -> bool:
        """Let the next part run. Return whether there is one. Parts whose calls were cancelled take nobody's turn."""
        while self._queues:
            caller, queue = next(iter(self._queues.items()))
            del self._queues[caller]
            while queue and queue[0].done():
                queue.popleft()
            if queue:
                queue.popleft().set_result(None)
                if queue:
                    self._queues[caller] = queue  # behind the others
                return True
        return False


class Slices:
    """Divides the requests of all batches among turns of the event loop."""

    def __init__(self) -> None:
        self._end = 0.0
        self._runs = False
        self._fresh = False
        self._ran = 0
        self._waiting = _Waiting()
        self._first: list[asyncio.Future[None]] = []

    async def take(self, caller: str) -> None:
        """Return in this turn of the event loop if there is time left in it, else in one of the next.

        Args:
            caller: Whose batch it is.
        """
        if not self._runs:
            self._fresh = True
            self._schedule()
        elif self._waiting or self._is_over():
            await self._waiting.add(caller)
            while self._is_over():
                turn = asyncio.get_running_loop().create_future()
                self._first.append(turn)
                await turn
        if self._fresh:
            self._fresh = False
            self._end = time.perf_counter() + SLICE_SECONDS
        self._ran += 1

    def _is_over(self) -> bool:
        return not self._fresh and time.perf_counter() >= self._end

    def _schedule(self) -> None:
        self._runs = True
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Begin a turn. Those parts that there is no time for wait once more, in front of all others."""
        first, self._first = [f for f in self._first if not f.done()], []
        left, self._ran, self._runs = 2 * self._ran + 1, 0, False
        for turn in first[:left]:
            turn.set_result(None)
        self._first = first[left:]
        left -= len(first)
        self._fresh = bool(first)
        while left > 0 and self._waiting.grant():
            self._fresh = True
            left -= 1
        if self._fresh:
            self._schedule()


class Turns:
    """Lets few parts of signatures into each turn of the event loop while there is an overload.

    Attributes:
        limited: Whether there is an overload. Without one nobody needs to `take` a turn.
    """

    def __init__(self) -> None:
        self.limited = False
        self._left = PASSES
        self._waiting = _Waiting()
        self._scheduled = False

    async def take(self, caller: str) -> None:
        """Return in this turn of the event loop if it has time for one more part, else in one of the next.

        Args:
            caller: Whose part it is.
        """
        if self._left and not self._waiting:
            self._left -= 1
            self._schedule()
            return
        turn = self._waiting.add(caller)
        self._schedule()
        await turn

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Begin a turn. Parts that have waited run in the next one, before any other."""
        self._scheduled = False
        left = PASSES
        while left and self._waiting.grant():
            left -= 1
        if left == PASSES:
            self._left = PASSES
        else:
            self._left = 0
            self._schedule()
