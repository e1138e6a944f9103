"""The keyring: an immutable snapshot of the store. Signing and publishing read it, without a database or a lock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import IssuerNotFoundError, StateTooOldError
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys import lifecycle
from sealwright.keys.issuer import RETRY_SECONDS, DocumentCache, Issuer, SigningKey
from sealwright.keys.ports import IssuerState, StoreState
from sealwright.keys.settings import TimingSettings
from sealwright.keys.timekeeping import Timekeeper, newest_other, of_boot

_READ_TOO_OLD: Final = "the store has not been read for longer than max_staleness"
_CLOCK_IS_WRONG: Final = "the clock of this machine differs from the store's by more than max_clock_error ({:.0f} s)"
_CLOCK_JUMPED: Final = "the store's clock was set: it has jumped by {:+.0f} s"


@dataclass(frozen=True, slots=True)
class _Record:
    """One issuer in a snapshot.

    Attributes:
        settings: What the configuration says.
        state: What was read.
        keys: Its keys, ready to use.
        cache: For its JWK Set.
        max_staleness: Seconds after the start of a confirmed read in which the replica may sign.
        max_clock_error: Seconds by which the clock of this machine may differ from the store's.
    """

    settings: IssuerSettings
    state: IssuerState
    keys: Mapping[str, SigningKey]
    cache: DocumentCache
    max_staleness: float
    max_clock_error: float


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """What one read of the store gave, and when that was last confirmed.

    Attributes:
        state: What was read.
        issuers: The same, ready to use.
        started: Stopwatch before the newest read that confirmed the state: staleness counts from there.
        ended: Stopwatch after it.
        zero: The store's time at which the stopwatch was zero.
        floor: The time is never before this.
        jump: By how many seconds the store's clock has jumped; None: it has not.
        clock_error: By how many seconds this machine's clock was wrong, at least.
        wall: This machine's clock after the read.
    """

    state: StoreState
    issuers: Mapping[str, _Record]
    started: float
    ended: float
    zero: datetime
    floor: datetime
    jump: float | None
    clock_error: float
    wall: datetime

    def now(self, elapsed: float) -> datetime:
        """Return the time, by the stopwatch."""
        return max(self.floor, self.zero + timedelta(seconds=elapsed))


class Keyring:
    """The snapshot that this replica signs and publishes with.

    `install` and `confirm` replace it; readers never wait. All limits are those of the store's rows.

    Attributes:
        refused: Why the store must not be used until an operator accepts it; None: it may be.
        timekeeper: Judges the store's clock.
        boot_id: Names this start of the machine.
    """

    def __init__(
        self, issuers: Sequence[IssuerSettings], timing: TimingSettings, clock: Clock, boot_id: str = ""
    ) -> None:
        self._settings = {i.name: i for i in issuers}
        self._timing = timing
        self._clock = clock
        self._snapshot: _Snapshot | None = None
        self._keys: dict[str, SigningKey] = {}
        self.refused: str | None = None
        self.timekeeper = Timekeeper(timing.max_clock_error)
        self.boot_id = boot_id

    def install(self, state: StoreState, *, started: float) -> None:
        """Replace the snapshot with a read of the store.

        Args:
            state: What was read.
            started: The stopwatch before the read began.

        Raises:
            ValueError: The store has a public key under the kid of another key.
        """
        keys: dict[str, SigningKey] = {}
        issuers: dict[str, _Record] = {}
        for name, settings in self._settings.items():
            found = state.issuers.get(name)
            if found is None:
                continue
            before = self._snapshot.issuers.get(name) if self._snapshot else None
            if before is not None and before.state is found:
                issuers[name] = before
                keys |= before.keys
                continue
            own: dict[str, SigningKey] = {}
            for key in found.keys:
                known = self._keys.get(key.kid)
                own[key.kid] = known if known is not None and known.record == key else SigningKey(key)
            keys |= own
            # Lead and tail are right for clock errors up to half of the K that they were computed with.
            tolerance = min(self._timing.max_clock_error, found.limits.verifier_skew / 2)
            staleness = found.limits.max_staleness.total_seconds()
            issuers[name] = _Record(settings, found, own, DocumentCache(), staleness, tolerance.total_seconds())
        self._keys = keys
        latest = newest_other(state.clocks, self.boot_id)
        self.timekeeper.adopt(of_boot(state.clocks, self.boot_id), latest, state.moves)
        self._snapshot = self._confirmed(state, issuers, state.time, started)

    def confirm(self, time: datetime, *, started: float) -> None:
        """Note that the store still is at the revision that was read.

        Args:
            time: The store's clock.
            started: The stopwatch before the question was asked.
        """
        old = self._snapshot
        if old is not None:
            self._snapshot = self._confirmed(old.state, old.issuers, time, started)

    def _confirmed(
        self, state: StoreState, issuers: Mapping[str, _Record], time: datetime, started: float
    ) -> _Snapshot:
        wall, ended = self._clock.now(), self._clock.elapsed()
        # The store read its clock somewhere between start and end: a larger difference is an error of a clock.
        off = (wall - time).total_seconds()
        error = max(-off, off - (ended - started), 0.0)
        keeper = self.timekeeper
        keeper.read(time, started=started, ended=ended, wall=wall)
        jump = None if keeper.jump is None else keeper.jump.total_seconds()
        return _Snapshot(state, issuers, started, ended, keeper.zero, keeper.floor, jump, error, wall)

    def now(self) -> datetime:
        """Return the time that all decisions about keys and tokens use: the store's, carried on by the stopwatch.

        A machine whose clock is wrong, or is set while the machine is cut off, therefore neither drops a key early nor signs with
        one that is not ready. The result lags the store's clock by the duration of a read. It never goes back, and does not
        follow a clock that jumps (`keys/timekeeping.py`).
        """
        snapshot = self._snapshot
        if snapshot is None:
            return self._clock.now()
        return snapshot.now(self._clock.elapsed())

    def seen_time(self) -> datetime:
        """Return when this replica is alive, as others should see it in the store.

        While nobody knows whether the store's clock or that of this host is right, that is the store's: the others go by it, and
        must find a replica that serves a JWK Set.
        """
        keeper = self.timekeeper
        if self._snapshot is None or keeper.anchor is not None:
            return self.now()
        return max(self.now(), keeper.told + timedelta(seconds=self._clock.elapsed()))

    @property
    def state(self) -> StoreState | None:
        """The newest read of the store; None before the first."""
        return self._snapshot.state if self._snapshot else None

    @property
    def unread(self) -> str:
        """Why there is nothing of an issuer that `find` does not find."""
        return self.refused or "the store has not been read yet"

    @property
    def issuers(self) -> Iterable[IssuerSettings]:
        """The settings of all configured issuers."""
        return self._settings.values()

    def settings(self, name: str) -> IssuerSettings:
        """Return the settings of an issuer.

        Raises:
            IssuerNotFoundError: The configuration does not have an issuer of that name.
        """
        settings = self._settings.get(name)
        if settings is None:
            raise IssuerNotFoundError("the issuer does not exist")
        return settings

    def find(self, name: str) -> Issuer | None:
        """Return a configured issuer as it is now; None before the store has been read, or has a row of it."""
        snapshot = self._snapshot
        record = snapshot.issuers.get(name) if snapshot else None
        if snapshot is None or record is None:
            return None
        elapsed = self._clock.elapsed()
        age, stale = elapsed - snapshot.started, self._stale(snapshot, record, elapsed)
        now, refresh = snapshot.now(elapsed), self._timing.verifier_refresh
        return Issuer(record.settings, record.state, record.keys, now, age, stale, record.cache, refresh)

    def _stale(self, snapshot: _Snapshot, record: _Record, elapsed: float) -> str | None:
        """Return why a snapshot must not be used to sign or to change keys; None: it may be used."""
        if elapsed - snapshot.started > record.max_staleness:
            return _READ_TOO_OLD
        if snapshot.jump is not None:
            return _CLOCK_JUMPED.format(snapshot.jump)
        error = self._clock_error(snapshot, elapsed)
        return _CLOCK_IS_WRONG.format(error) if error > record.max_clock_error else None

    def _clock_error(self, snapshot: _Snapshot, elapsed: float) -> float:
        """Return by how many seconds the clock of this machine may be wrong."""
        passed = elapsed - snapshot.ended
        return snapshot.clock_error + abs((self._clock.now() - snapshot.wall).total_seconds() - passed)

    def steady_signers(self) -> dict[str, Sequence[SigningKey]]:
        """Return `possible_signers` of the issuers that may sign and for which it is known already. Thousands cost little."""
        snapshot = self._snapshot
        if snapshot is None or snapshot.jump is not None:
            return {}
        elapsed = self._clock.elapsed()
        age, error, now = elapsed - snapshot.started, self._clock_error(snapshot, elapsed), snapshot.now(elapsed)
        return {
            name: record.cache.signers
            for name, record in snapshot.issuers.items()
            if record.cache.signers is not None
            and (record.cache.signers_until is None or record.cache.signers_until > now)
            and age <= record.max_staleness
            and error <= record.max_clock_error
        }

    def trusts(self, name: str, kid: str) -> bool:
        """Tell whether tokens of a key are valid now, as `fresh(name).trusted(kid)` does. Each signature asks this twice.

        Raises:
            StateTooOldError: See `fresh`.
        """
        snapshot = self._snapshot
        record = snapshot.issuers.get(name) if snapshot else None
        if snapshot is None or record is None:
            return self.fresh(name).trusted(kid) is not None
        elapsed = self._clock.elapsed()
        stale = self._stale(snapshot, record, elapsed)
        if stale is not None:
            raise StateTooOldError(stale, retry_after=RETRY_SECONDS)
        key = record.keys.get(kid)
        if key is None:
            return False
        # Without a time at which it leaves the set, any time will do.
        now = snapshot.floor if key.record.withdraw_time is None else snapshot.now(elapsed)
        return lifecycle.published(key.record, now)

    def at(self, name: str) -> Issuer:
        """Return an issuer as it is now, to show and to publish.

        Raises:
            IssuerNotFoundError: The configuration does not have an issuer of that name.
            StateTooOldError: The store has not been read yet.
        """
        issuer = self.find(name)
        if issuer is None:
            self.settings(name)
            raise StateTooOldError(self.unread, retry_after=RETRY_SECONDS)
        return issuer

    def fresh(self, name: str) -> Issuer:
        """Return an issuer as it is now, to sign with and to change.

        Raises:
            IssuerNotFoundError: The configuration does not have an issuer of that name.
            StateTooOldError: The newest confirmed read is older than S, or the clock is wrong by more than `max_clock_error`.
        """
        issuer = self.at(name)
        issuer.require_fresh()
        return issuer

    def age(self) -> timedelta:
        """Return the time since the start of the newest confirmed read."""
        if self._snapshot is None:
            return timedelta.max
        return timedelta(seconds=self._clock.elapsed() - self._snapshot.started)
