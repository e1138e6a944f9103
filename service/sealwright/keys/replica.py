"""The replica: keeps the keyring in step with the store, and writes how far it has read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Final

from sealwright import __version__
from sealwright.clock import Clock
from sealwright.keys.keyring import Keyring
from sealwright.keys.ports import ClockRecord, KeyStore, Replica, StoreState, StoreUnavailableError
from sealwright.keys.settings import TimingSettings
from sealwright.keys.token_counts import TokenCounts, minute_of
from sealwright.keys.witness import (
    REMEDY,
    FactsCache,
    StoreRefusedError,
    Witness,
    WitnessStore,
    WitnessUnreadableError,
    objection,
    witness_of,
)

log = logging.getLogger(__name__)

_HEARTBEAT: Final = timedelta(seconds=5)
_ALIVE: Final = 3 * _HEARTBEAT
"""A replica that has written its row since then is taken for alive."""
_RETRY_SECONDS: Final = 1.0
"""A read that failed is tried again after so long at the latest, however long `refresh_interval` is."""
_GAP_SECONDS: Final = 0.25
"""Between two reads, however many changes are announced. They are all in the next read."""
_READ_ALL: Final = timedelta(minutes=1)
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
        host: str = "",
        count: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare.

        Args:
            replica_id: Unique for this start.
            store: What to keep in step with.
            keyring: What to keep in step.
            counts: Token counts to write.
            witness: Remembers what verifiers have seen of the store.
            timing: Intervals and limits.
            clock: The clock.
            host: Name of this host, for the replica's row.
            count: Hears every few seconds how many replicas there are; None: nobody wants to know.
        """
        self.replica_id = replica_id
        self._count = count
        self._host = host
        self._witness = witness
        self._recorded: Witness | None = None
        self._seen: Witness | None = None
        self._unrecorded = False
        self._facts = FactsCache()
        self._read_all = float("-inf")
        self._jump: timedelta | None = None
        self._with_url: set[str] = set()
        self._store = store
        self._keyring = keyring
        self._counts = counts
        self._timing = timing
        self._clock = clock
        self._trouble: str | None = None
        self._start_time = clock.now()
        self._revision = 0
        self._beat: tuple[int, float] = (0, 0.0)
        self._pruned = clock.elapsed()
        self._reading = asyncio.Lock()
        self._wake = asyncio.Event()

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
            # Now and then everything is read, in case the store was changed without its revisions.
            whole = started - self._read_all >= _READ_ALL.total_seconds()
            state = await self._store.read(None if whole else self._keyring.state)
            self._read_all = started if whole else self._read_all
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
        found = witness_of(state, known[0].acceptance if known else "", self._facts.facts(state))
        for one in known:
            reason = objection(one, found)
            if reason is not None:
                raise self._refusal(reason)
        self._keyring.refused = None
        return found

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

    async def enter(self) -> None:
        """Read the store, write this replica's row, and read the store again. Then the replica may serve and sign.

        A revocation that this replica has not read sees its row, and names it among the stale ones.

        Raises:
            StoreRefusedError: The store is not the one that verifiers have seen.
            StoreUnavailableError: The store cannot be read or written.
        """
        await self.refresh()
        await self._write_row()
        await self.refresh()

    def wake(self) -> None:
        """Read the store soon, because it may have changed."""
        self._wake.set()

    async def run(self) -> None:
        """Keep in step until cancelled. The log has one line when the store becomes unreachable, and one when it is back."""
        interval = self._timing.refresh_interval.total_seconds()
        while True:
            self._wake.clear()
            begun = self._clock.elapsed()
            well = await self._tried(self._look)
            await self._pause(interval if well else min(interval, _RETRY_SECONDS))
            await asyncio.sleep(min(interval, _GAP_SECONDS) - (self._clock.elapsed() - begun))

    async def _look(self) -> None:
        await self.refresh()
        await self._settle_clock()
        await self._write_row()

    async def _pause(self, seconds: float) -> None:
        """Wait until the store may have changed, but not for longer than that. Write this replica's row meanwhile."""
        beat = _HEARTBEAT.total_seconds()
        while seconds > 0:
            try:
                async with asyncio.timeout(min(seconds, beat)):
                    await self._wake.wait()
            except TimeoutError:
                seconds -= beat
            else:
                return
            if seconds > 0 and not await self._tried(self._write_row):
                return

    async def _tried(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Return whether it succeeded. Log what has changed about that."""
        try:
            await work()
        except StoreRefusedError as error:
            if self._trouble != str(error):
                log.error("the store is refused: %s", error)  # noqa: TRY400 - the error says it all
            self._trouble = str(error)
        except StoreUnavailableError as error:
            if self._trouble is None:
                log.warning("the store cannot be read; signing continues for max_staleness: %s", error)
            self._trouble = self._trouble or ""
        except Exception:
            log.exception("reading the store failed")
        else:
            if self._trouble is not None:
                log.info("the store can be read again")
            self._trouble = None
            return True
        return False

    async def _write_row(self) -> None:
        """Write this replica's row when it has read a new revision, and every few seconds."""
        revision, then = self._beat
        now = self._clock.elapsed()
        if revision == self._revision and now - then < _HEARTBEAT.total_seconds():
            return
        await self._counts.flush()
        for replica_id in await self._store.bury(self._keyring.now()):
            log.info("replica %s has ended without a farewell; its work is taken over", replica_id)
        row = Replica(
            replica_id=self.replica_id,
            revision=self._revision,
            start_time=self._start_time,
            seen_time=self._keyring.seen_time(),
            host=self._host,
            version=__version__,
        )
        await self._store.heartbeat(row, self._clock_record())
        await self._keep_urls()
        if self._count is not None:
            self._count(len(await self._store.replicas(row.seen_time - _ALIVE)))
        self._beat = (self._revision, now)
        if now - self._pruned >= _PRUNE_INTERVAL.total_seconds():
            self._pruned = now
            await self.prune()

    async def _keep_urls(self) -> None:
        """Let the store know the URLs of new issuers, so that a configuration with other ones is refused."""
        state = self._keyring.state
        rows = state.issuers if state else {}
        new = {
            i.name: i.url
            for i in self._keyring.issuers
            if i.name in rows and rows[i.name].url is None and i.name not in self._with_url
        }
        if new:
            await self._store.keep_urls(new)
            self._with_url |= new.keys()

    def _clock_record(self) -> ClockRecord | None:
        """Return what the store should know of this machine's clock; None: nothing.

        While the clock is off, the anchor stays as it is in the store, because another replica may have settled the jump already.
        """
        keeper, state = self._keyring.timekeeper, self._keyring.state
        if state is None or keeper.anchor is None or keeper.rough:
            return None
        boot, now, sure = self._keyring.boot_id, self._keyring.now(), keeper.jump is None
        return ClockRecord(boot_id=boot, zero=keeper.anchor, seen_time=now, sure=sure, moves=state.moves)

    async def _settle_clock(self) -> None:
        """Say that the store's clock has jumped. If it stays so for long enough, go on by the new time."""
        keeper, state = self._keyring.timekeeper, self._keyring.state
        jump = keeper.jump
        if jump != self._jump:
            if jump is not None:
                log.error(
                    "the store's clock was set: it has jumped by %+.0f s. Nothing is signed until it is back, or until it has "
                    "stayed so for clock_settle_time; if it is right, run `sealwright store accept`",
                    jump.total_seconds(),
                )
            else:
                log.info("the store's clock is right again")
            self._jump = jump
        if jump is None or state is None:
            return
        if keeper.jumped_for(self._clock.elapsed()) < self._timing.clock_settle_time.total_seconds():
            return
        seconds = keeper.shift.total_seconds()
        if await self._store.settle_clock(state, keeper.shift, keeper.settled(self._keyring.boot_id)):
            log.warning("the jump has lasted: all times in the store have moved by %+.0f s", seconds)
        await self.refresh()

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
            await self._store.farewell(self.replica_id, self._keyring.now(), self._clock_record())
        except StoreUnavailableError:
            log.warning("the store cannot be reached; this replica's row stays until it is pruned")


def _same(a: Witness, b: Witness) -> bool:
    return (a.deployment_id, a.acceptance, a.keys, a.blocked) == (b.deployment_id, b.acceptance, b.keys, b.blocked)
