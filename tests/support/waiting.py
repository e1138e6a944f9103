"""Waiting until something is so, without a guess at how long that takes."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable

SECONDS = 90.0
"""After so long it is taken for never. A busy machine is slow."""
NEVER = "it did not come to be in time"


def eventually(condition: Callable[[], object], what: str = "", seconds: float = SECONDS) -> None:
    """Wait until something is so.

    Args:
        condition: Returns whether it is.
        what: What it means if it never is.
        seconds: How long to wait at most.

    Raises:
        AssertionError: It did not come to be in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what or NEVER
        time.sleep(0.05)


async def until(condition: Callable[[], Awaitable[object] | object], what: str = "", seconds: float = SECONDS) -> None:
    """Wait until something is so, while the event loop goes on. See `eventually`; the condition may be asynchronous."""
    end = time.monotonic() + seconds
    while True:
        answer = condition()
        if await answer if inspect.isawaitable(answer) else answer:
            return
        assert time.monotonic() < end, what or NEVER
        await asyncio.sleep(0.02)
