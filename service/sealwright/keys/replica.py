"""The replica: keeps the keyring in step with the store, and writes how far it has read."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Final

from sealwright.clock import Clock
from sealwright.keys.keyring import Keyring
from sealwright.keys.ports import KeyStore, Replica, StoreState, StoreUnavailableError
from sealwright.keys.settings import TimingSettings
from sealwright.keys.token_counts import TokenCounts, minute_of
from sealwright.keys.witness import (
    REMEDY,
    StoreRefusedError,
    Witness,
    WitnessStore,
    WitnessUnreadableError,
    objection,
    witness_of,
)

log = logging.getLogger(__name__)

_HEARTBEAT: Final = timedelta(seconds=5)
_PRUNE_INTERVAL: Final = timedelta(hours=1)
_KEEP_COUNTS: Final = timedelta(days=1)
"""How long counts of expired tokens are kept."""


class ReplicaSync:
    """Reads the store, at an interval and on demand, and writes this replica's row and its token counts.

    Attributes:
        replica_id: Unique for each start of a worker.
    """

    def __init__(
        self,
        replica_id: str,
        store: KeyStore,
        keyring: Keyring,
        counts: TokenCounts,
        *,
        witness: WitnessStore,
        timing: TimingSettings,
        clock: Clock,
    ) -> None:
        self.replica_id = replica_id
        self._witness = witness
        self._recorded: Witness | None = None
        self._seen: Witness | None = None
        self._unrecorded = False
        self._store = store
        self._keyring = keyring
        self._counts = counts
        self._timing = timing
        self._clock = clock
        self._start_time = clock.now()
        self._revision = 0
        self._beat: tuple[int, float] = (0, 0.0)
        self._pruned = clock.elapsed()
        self._reading = asyncio.Lock()

    async def refresh(self) -> None:
        """Bring the keyring up to date with the store.

        Raises:
            StoreRefusedError: The store is not the one that verifiers have seen. The keyring stays as it was.
            StoreUnavailableError: The store cannot be read. The keyring stays as it was.
        """
        async with self._reading:
            started = self._clock.elapsed()
            revision, time = await self._store.probe()
            if revision == self._revision:
                await self._record()
                self._keyring.confirm(time, started=started)
                return
            witness = self._read_witness()  # before the store, which can then only be newer
            started = self._clock.elapsed()
            state = await self._store.read()
            self._seen = self._checked(witness, state)
            await self._record()
            self._keyring.install(state, started=started)
            self._revision = state.revision

    def _read_witness(self) -> Witness | None:
        try:
            return self._witness.read()
        except WitnessUnreadableError as error:
            raise self._refusal(f"the witness of the store cannot be read: {error}") from None

    def _checked(self, witness: Witness | None, state: StoreState) -> Witness:
        """Return what is to be remembered of a store that may be used.

        Raises:
            StoreRefusedError: It must not be used.
        """
        known = [] if witness is None else [witness]
        # What this replica has seen counts too, unless an operator has accepted another store since.
        if self._seen is not None and (witness is None or witness.acceptance == self._seen.acceptance):
            known.append(self._seen)
        for one in known:
            reason = objection(one, state)
            if reason is not None:
                raise self._refusal(reason)
        self._keyring.refused = None
        return witness_of(state, known[0].acceptance if known else "")

    def _refusal(self, reason: str) -> StoreRefusedError:
        text = f"{reason}: {REMEDY}"
        self._keyring.refused = text
        return StoreRefusedError(text)

    async def _record(self) -> None:
        """Record in the witness what the replica is about to sign with and to publish, if it is new.

        If that fails, the replica goes on and tries again later: a revocation must be possible on a full disk.
        """
        seen, recorded = self._seen, self._recorded
        if seen is None or not seen.keys:
            return
        try:
            if recorded is not None and _same(recorded, seen) and self._witness.read() is not None:
                return
            await asyncio.to_thread(self._witness.record, seen)
        except (OSError, WitnessUnreadableError) as error:
            if not self._unrecorded:
                log.warning("the witness of the store cannot be written: %s", error)
            self._unrecorded = True
        else:
            self._unrecorded = False
            self._recorded = seen

    async def run(self) -> None:
        """Keep in step until cancelled. The log has one line when the store becomes unreachable, and one when it is back."""
        interval = self._timing.refresh_interval.total_seconds()
        trouble: str | None = None
        while True:
            try:
                await self.refresh()
                await self._write_row()
                if trouble is not None:
                    log.info("the store can be read again")
                trouble = None
            except StoreRefusedError as error:
                if trouble != str(error):
                    log.error("the store is refused: %s", error)  # noqa: TRY400 - the error says it all
                trouble = str(error)
            except StoreUnavailableError:
                if trouble is None:
                    log.warning("the store cannot be read; signing continues for max_staleness")
                trouble = trouble or ""
            except Exception:
                log.exception("reading the store failed")
            await asyncio.sleep(interval)

    async def _write_row(self) -> None:
        """Write this replica's row when it has read a new revision, and every few seconds."""
        revision, then = self._beat
        now = self._clock.elapsed()
        if revision == self._revision and now - then < _HEARTBEAT.total_seconds():
            return
        await self._counts.flush()
        row = Replica(replica_id=self.replica_id, revision=self._revision, seen_time=self._keyring.now())
        await self._store.heartbeat(row, self._start_time)
        self._beat = (self._revision, now)
        if now - self._pruned >= _PRUNE_INTERVAL.total_seconds():
            self._pruned = now
            await self.prune()

    async def prune(self) -> None:
        """Delete the rows of replicas that can neither sign nor serve any longer, and counts of tokens that expired long ago.

        A replica that is cut off serves for `max_serve_age`. Until then it must be found when a key is revoked.
        """
        state = self._keyring.state
        limits = [i.limits for i in state.issuers.values()] if state else []
        if not limits:
            return
        now = self._keyring.now()
        await self._store.prune(
            replicas_seen_before=now - max(max(limit.max_serve_age, limit.max_staleness) for limit in limits),
            tokens_expired_before=minute_of(now - _KEEP_COUNTS),
        )

    async def farewell(self) -> None:
        """Write the last token counts and delete the replica's row."""
        try:
            await self._counts.flush()
            await self._store.farewell(self.replica_id)
        except StoreUnavailableError:
            log.warning("the store cannot be reached; this replica's row stays until it is pruned")


def _same(a: Witness, b: Witness) -> bool:
    return (a.deployment_id, a.acceptance, a.keys) == (b.deployment_id, b.acceptance, b.keys)
