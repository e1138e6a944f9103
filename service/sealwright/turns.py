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
"""How long the parts of a batch may take in a turn, before the last of them."""


class Slices:
    """Divides the requests of all batches among turns of the event loop, in the order in which they came."""

    def __init__(self) -> None:
        self._end = 0.0
        self._runs = False
        self._fresh = False
        self._ran = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._first: list[asyncio.Future[None]] = []

    async def take(self) -> None:
        """Return in this turn of the event loop if there is time left in it, else in one of the next."""
        if not self._runs:
            self._fresh = True
            self._schedule()
        elif self._waiting or self._is_over():
            queue: deque[asyncio.Future[None]] | list[asyncio.Future[None]] = self._waiting
            while True:
                turn = asyncio.get_running_loop().create_future()
                queue.append(turn)
                await turn
                if self._fresh or not self._is_over():
                    break
                queue = self._first
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
        """Begin a turn with about as many parts as the last one had time for."""
        self._waiting.extendleft(reversed(self._first))
        self._first.clear()
        left, self._ran, self._runs, self._fresh = self._ran + 1, 0, False, False
        while self._waiting and left:
            turn = self._waiting.popleft()
            if not turn.done():  # else its call was cancelled
                turn.set_result(None)
                left -= 1
                self._fresh = True
        if self._fresh:
            self._schedule()


class Turns:
    """Lets few parts of signatures into each turn of the event loop while there is an overload. Callers take turns.

    Attributes:
        limited: Whether there is an overload. Without one nobody needs to `take` a turn.
    """

    def __init__(self) -> None:
        self.limited = False
        self._left = PASSES
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}
        self._scheduled = False

    async def take(self, caller: str) -> None:
        """Return in this turn of the event loop if it has time for one more part, else in one of the next.

        Args:
            caller: Whose part it is. One that has many parts waiting delays those of another by one part each.
        """
        if self._left and not self._waiting:
            self._left -= 1
            self._schedule()
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(future)
        self._schedule()
        await future

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        """Begin a turn. Parts that have waited run in the next one, before any other."""
        self._scheduled = False
        left = PASSES
        while self._waiting and left:
            caller, queue = next(iter(self._waiting.items()))
            del self._waiting[caller]
            future = queue.popleft()
            if queue:
                self._waiting[caller] = queue  # behind the others
            if not future.done():  # else its call was cancelled
                future.set_result(None)
                left -= 1
        if left == PASSES:
            self._left = PASSES
        else:
            self._left = 0
            self._schedule()
