"""Ends calls that overrun. One timer serves all of them, where `asyncio.timeout` sets and cancels one for each call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar, cast

STEP_SECONDS: Final = 0.02
"""A call is ended at most this much later than it should have ended."""

T = TypeVar("T")


class Deadlines:
    """The deadlines of the calls under way. Belongs to the event loop that it is used in.

    Providers end their calls in time by themselves, so this is for those that do not.
    """

    def __init__(self) -> None:
        self._ends: dict[asyncio.Task[Any], float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # Kept, since Python 3.11 asks the system each time.

    async def call(self, function: Callable[..., Awaitable[T]], arguments: tuple[Any, ...], seconds: float) -> T:
        """Call a function, which also gets `timeout`, the seconds that it may take.

        Raises:
            TimeoutError: It had not ended by then, and was cancelled.
        """
        loop = self._loop
        if loop is None:
            loop = self._loop = asyncio.get_running_loop()
        task = cast("asyncio.Task[Any]", asyncio.current_task(loop))
        cancelled_before = task.cancelling()
        self._ends[task] = loop.time() + seconds
        if self._timer is None:
            self._timer = loop.call_later(STEP_SECONDS, self._sweep, loop)
        try:
            result = await function(*arguments, timeout=seconds)
        except BaseException as fault:
            ended = self._end(task) and task.uncancel() <= cancelled_before
            if ended and isinstance(fault, asyncio.CancelledError):
                raise TimeoutError from None
            raise
        if self._end(task):
            task.uncancel()
        return result

    def _end(self, task: asyncio.Task[Any]) -> bool:
        """Return whether the task was cancelled here."""
        return self._ends.pop(task, None) is None

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task in [task for task, end in self._ends.items() if end <= now]:
            del self._ends[task]
            task.cancel()
        self._timer = loop.call_later(STEP_SECONDS, self._sweep, loop) if self._ends else None
