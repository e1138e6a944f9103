"""What the batches of each caller may do at once, so that many batches are no more than many calls.

A batch is one call for admission, however many requests it has. So the requests of all batches of a caller share a number of
places. A caller who has asked for more tokens than can be signed within the deadlines of its calls is refused before they cost
anything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

from sealwright.errors import OverloadedError

WIDTH: Final = 32
"""How many requests of one batch run at once, so that a batch leaves room for other calls."""
PLACES: Final = 4 * WIDTH
"""How many requests of all batches of a caller run at once."""
MOST_REQUESTS: Final = 8192
"""How many requests the batches of a caller may have under way: some seconds of work for a worker."""
_RETRY_SECONDS: Final = 1.0


class _Caller:
    __slots__ = ("places", "requests")

    def __init__(self) -> None:
        self.places = asyncio.Semaphore(PLACES)
        self.requests = 0


class Batches:
    """The batches under way in a worker, by caller."""

    def __init__(self) -> None:
        self._callers: dict[str, _Caller] = {}

    @contextlib.contextmanager
    def under_way(self, caller: str, requests: int) -> Iterator[asyncio.Semaphore]:
        """Count a batch while the block runs, and give it the places that each of its requests takes.

        Args:
            caller: Who sent it.
            requests: How many it has.

        Raises:
            OverloadedError: The caller has too many under way.
        """
        one = self._callers.get(caller) or self._callers.setdefault(caller, _Caller())
        if one.requests + requests > MOST_REQUESTS:
            raise OverloadedError("the caller has too many requests in batches under way", retry_after=_RETRY_SECONDS)
        one.requests += requests
        try:
            yield one.places
        finally:
            one.requests -= requests
            if not one.requests:
                del self._callers[caller]
