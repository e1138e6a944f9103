"""The time that a request may take, over all of its calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from sealwright.provider import ProviderTimeoutError

TRIES: Final = 3
"""Calls for one request whose answers arrive damaged, before it fails."""


class Limit:
    """A deadline.

    Attributes:
        end: Time of the event loop.
    """

    def __init__(self, end: float) -> None:
        self.end = end

    def left(self) -> float:
        """Return the seconds until the deadline; they may be negative."""
        return self.end - asyncio.get_running_loop().time()


def limit_of(seconds: float) -> Limit:
    """Return the deadline of a request.

    Raises:
        ProviderTimeoutError: There is no time left.
    """
    if seconds <= 0:
        raise ProviderTimeoutError("the deadline passed before Google Cloud KMS could be called")
    return Limit(asyncio.get_running_loop().time() + seconds)


@asynccontextmanager
async def limited(seconds: float) -> AsyncIterator[Limit]:
    """Limit the time like `asyncio.timeout`, and raise our error. Starts nothing if there is no time left.

    Raises:
        ProviderTimeoutError: The time is over.
    """
    limit = limit_of(seconds)
    try:
        async with asyncio.timeout_at(limit.end):
            yield limit
    except TimeoutError:
        raise ProviderTimeoutError("Google Cloud KMS did not answer before the deadline") from None
