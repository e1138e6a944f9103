"""The replica: keeps the keyring in step with the store, and tells the others how far it has read."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import timedelta
from typing import Final

from sealwright.clock import Clock
from sealwright.keys.keyring import Keyring
from sealwright.keys.ports import KeyStore, Replica, StoreUnavailableError
from sealwright.keys.settings import TimingSettings

log = logging.getLogger(__name__)

_HEARTBEAT: Final = timedelta(seconds=5)
_SECONDS_PER_MINUTE: Final = 60


class ReplicaSync:
    """Reads the store, at an interval and on demand, and writes this replica's row and its token counts."""

    def __init__(
        self, replica_id: str, store: KeyStore, keyring: Keyring, timing: TimingSettings, clock: Clock
    ) -> None:
        self.replica_id = replica_id
        self._store = store
        self._keyring = keyring
        self._timing = timing
        self._clock = clock
        self._start_time = clock.now()
        self._revision = 0
        self._beat: tuple[int, float] = (0, 0.0)
        self._counts: Counter[tuple[str, int]] = Counter()
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Bring the keyring up to date with the store as it is now.

        Raises:
            StoreUnavailableError: The store cannot be read; the keyring stays as it was.
        """
        async with self._reading:
            started = self._clock.elapsed()
            revision, time = await self._store.probe()
            if revision == self._revision:
                self._keyring.confirm(time, started=started)
                return
            started = self._clock.elapsed()
            state = await self._store.read()
            if state.revision < self._revision:
                # An older copy may lack a revocation, and a retirement whose tail has begun.
                raise StoreUnavailableError("the store has gone back to an older state; restart to accept it")
            self._keyring.install(state, started=started)
            self._revision = state.revision

    def count(self, kid: str, expire_time: int) -> None:
        """Count a released token.

        Args:
            kid: The key that signed it.
            expire_time: Its `exp`.
        """
        self._counts[kid, expire_time // _SECONDS_PER_MINUTE] += 1

    async def flush(self) -> None:
        """Write the token counts. What could not be written is counted again later."""
        counts, self._counts = self._counts, Counter()
        if not counts:
            return
        try:
            await self._store.add_token_counts(counts)
        except StoreUnavailableError:
            self._counts.update(counts)
            raise

    async def run(self) -> None:
        """Keep in step until cancelled. An outage of the store is logged once, and once when it is over."""
        interval = self._timing.refresh_interval.total_seconds()
        reachable = True
        while True:
            try:
                await self.refresh()
                await self._say()
                if not reachable:
                    log.info("the store can be read again")
                reachable = True
            except StoreUnavailableError:
                if reachable:
                    log.warning("the store cannot be read; signing goes on for max_staleness")
                reachable = False
            except Exception:
                log.exception("reading the store failed")
            await asyncio.sleep(interval)

    async def _say(self) -> None:
        """Write this replica's row when it has read something new, and every few seconds."""
        revision, then = self._beat
        now = self._clock.elapsed()
        if revision == self._revision and now - then < _HEARTBEAT.total_seconds():
            return
        await self.flush()
        row = Replica(replica_id=self.replica_id, revision=self._revision, seen_time=self._clock.now())
        await self._store.heartbeat(row, self._start_time)
        self._beat = (self._revision, now)

    async def farewell(self) -> None:
        """Write the last token counts and take the replica's row away."""
        try:
            await self.flush()
            await self._store.farewell(self.replica_id)
        except StoreUnavailableError:
            log.warning("the store cannot be reached; this replica's row stays until it is too old to matter")
