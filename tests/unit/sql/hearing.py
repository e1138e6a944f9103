"""A listener for changes of a store, and what it has heard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from sealwright.sql.settings import StoreSettings
from support.waiting import until


class Heard:
    """How often a listener said that the store may have changed."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> None:
        self.times += 1

    async def more_than(self, times: int) -> None:
        """Wait until it was so more often than that."""
        await until(lambda: self.times > times)


@contextlib.asynccontextmanager
async def listening(where: StoreSettings, *, at_once: bool = True) -> AsyncIterator[Heard]:
    """Listen, as a replica does."""
    heard = Heard()
    listener = where.dialect.listener(where.url)
    assert listener is not None
    job = asyncio.create_task(listener.run(heard))
    try:
        if at_once:
            await heard.more_than(0)
        yield heard
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
