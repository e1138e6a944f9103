"""How many tokens are alive, by key: an estimate for the person who revokes one."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from sealwright.keys.ports import KeyStore, StoreUnavailableError
from sealwright.times import MINUTE, SECOND


def minute_of(time: datetime) -> int:
    """Return the minute of a time, counted from the epoch."""
    return int(time.timestamp()) // (MINUTE // SECOND)


class TokenCounts:
    """Counts released tokens by kid and minute of their `exp`, and writes the counts to the store now and then."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._counts: Counter[tuple[str, int]] = Counter()

    def count(self, kid: str, expire_time: int) -> None:
        """Count a released token.

        Args:
            kid: The key that signed it.
            expire_time: Its `exp`, in seconds since the epoch.
        """
        self._counts[kid, expire_time // (MINUTE // SECOND)] += 1

    async def flush(self) -> None:
        """Write the counts. Counts that could not be written are kept for the next flush.

        Raises:
            StoreUnavailableError: The store cannot be written.
        """
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await self._store.add_token_counts(counts)
        except StoreUnavailableError:
            self._counts.update(counts)
            raise
