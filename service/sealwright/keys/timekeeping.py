"""The store's clock against the stopwatch: a clock that jumps is not followed.

The stopwatch (CLOCK_BOOTTIME) only measures how long the machine has been running, and nobody sets it. So the time at which it
was zero, by the store's clock, is a constant: the anchor. A read of the store whose anchor is another one shows that a clock was
set. Then the time that was known before is carried on by the stopwatch, for what is published, and nothing is signed or changed.
This ends when the clock is back, or when the jump is settled: every time in the store moves by the jump, so that each key
keeps the time that it still has to wait, and signing goes on by the new clock. The store counts by how much its times have moved
in all, so that each host learns of it and none moves them once more.

A host that knows nothing of the store's clock yet has only its own to compare it with. While the two differ, it drops no key that
either of them still needs.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.ports import ClockRecord, Intent
from sealwright.times import EPOCH

_RATE: Final = 200e-6
"""How fast the anchor follows small differences: two clocks differ by at most so much a second, or the anchor would lag behind."""
_NOTHING: Final = timedelta()


class Timekeeper:
    """Judges the reads of the store's clock.

    Attributes:
        anchor: The store's time at which the stopwatch was zero, at the earliest; None: before the first read.
        zero: The same by the newest read that was followed. The difference is at most the tolerance.
        told: The same by the newest read, whether it was followed or not.
        floor: The time never goes back behind this.
        jump: By how much the store's clock differed from the anchor, beyond the tolerance, when that began; None: it does not.
        shift: By how much all times must move for the jump to be settled.
        target: The anchor after that.
    """

    def __init__(self, tolerance: timedelta) -> None:
        self._tolerance = tolerance
        self._moved = 0.0
        self._latest = EPOCH
        self._jumped = 0.0
        self._spread = _NOTHING
        self._offered: ClockRecord | None = None
        self._moves = self._followed_moves = _NOTHING
        self.anchor: datetime | None = None
        self.zero = EPOCH
        self.told = EPOCH
        self.floor = EPOCH
        self.jump: timedelta | None = None
        self.shift = _NOTHING
        self.target = EPOCH

    @property
    def rough(self) -> bool:
        """Whether the anchor may be wrong by more than the tolerance, because every read so far was slow."""
        return self._spread > self._tolerance

    def now(self, elapsed: float) -> datetime:
        """Return the time.

        Args:
            elapsed: The stopwatch.
        """
        return max(self.floor, self.zero + timedelta(seconds=elapsed))

    def jumped_for(self, elapsed: float) -> float:
        """Return for how many seconds the store's clock has been off by the same jump."""
        return elapsed - self._jumped if self.jump is not None else 0.0

    def settled(self, boot: str) -> ClockRecord:
        """Return what the store should know of the clock when the jump is settled: the newest read was right."""
        return ClockRecord(boot_id=boot, zero=self.target, seen_time=self.floor + self.shift)

    def adopt(self, record: ClockRecord | None, latest: datetime | None, moves: timedelta = _NOTHING) -> None:
        """Take over what the store knows, now or when a read shows that it is right.

        Args:
            record: The anchor since this boot of the machine, by any process; None: there is none.
            latest: The newest time that the store has seen before this boot.
            moves: By how much the times in the store have moved in all.
        """
        self._offered, self._moves = record, moves
        if record is None:
            if self.anchor is None:  # it only goes back if another replica has settled a jump
                self._latest = latest or EPOCH
        elif self.anchor is None:
            self.anchor = self.zero = record.zero
            self.floor = record.seen_time

    def _take_over(self, low: datetime, high: datetime) -> None:
        """Take over the store's anchor if the interval of a read contradicts ours and agrees with that one.

        Then another replica has settled the jump. The times of the keys have moved with the anchor, and so does the time by which
        they are judged. A host without a record moves its own anchor by as much.
        """
        if self.anchor is None or abs(_deviation(self.anchor, self._spread, low, high)) <= self._tolerance:
            return
        settled = [(self.anchor + self._moves - self._followed_moves, self._spread)]
        if self._offered is not None:
            settled.insert(0, (self._offered.zero, _NOTHING))
        for anchor, spread in settled:
            if abs(_deviation(anchor, spread, low, high)) <= self._tolerance:
                moved = anchor - self.anchor
                self.anchor, self.zero, self.floor = anchor, self.zero + moved, self.floor + moved
                self._spread = spread
                return

    def read(self, time: datetime, *, started: float, ended: float, wall: datetime | None = None) -> None:
        """Judge a read of the store's clock.

        Args:
            time: The store's clock.
            started: The stopwatch before the read.
            ended: The stopwatch after it.
            wall: This machine's clock after it; None: it is not compared.
        """
        low, high = time - timedelta(seconds=ended), time - timedelta(seconds=started)
        self.told = low
        self._take_over(low, high)
        if self.anchor is None:
            self.zero, self.floor = low, self._latest
            if time < self._latest - self._tolerance:
                # This machine has just started, and its clock has not reached what the store has seen before.
                self.shift, self.target = time - self._latest, low
                self._note(self.shift, ended, same=self.jump is not None)
                return
            own = low if wall is None else wall - timedelta(seconds=ended)
            if not low - self._tolerance <= own <= high + self._tolerance:
                # Nothing says which of the two clocks is right. Nothing is signed, and what is published lasts longer.
                self.zero, self.jump = min(low, own), None
                return
            self.anchor, self._spread, self._moved = low, high - low, ended
        self.floor = self.now(ended)
        off = _deviation(self.anchor, self._spread, low, high)
        if abs(off) > self._tolerance:
            self.shift = time - self.floor
            self.target = self.anchor + self.shift
            self._note(off, ended, same=self.jump is not None and abs(off - self.jump) <= self._tolerance)
            return
        self.jump = None
        self._followed_moves = self._moves
        self.zero = low
        self.anchor = self._followed(self.anchor, low, high, ended)
        self._moved = ended

    def _followed(self, anchor: datetime, low: datetime, high: datetime, ended: float) -> datetime:
        """Return the anchor after a read.

        A slow read tells little: the store may have read its clock at any time during it. Each quicker one tells more.
        """
        missed, step = _deviation(anchor, self._spread, low, high), timedelta(seconds=_RATE * (ended - self._moved))
        latest = min(anchor + self._spread, high)
        anchor = min(max(anchor, low), anchor + self._spread)
        self._spread = max(latest - anchor, _NOTHING)
        return anchor + min(max(missed, -step), step)

    def _note(self, jump: timedelta, elapsed: float, *, same: bool) -> None:
        if not same:
            self.jump, self._jumped = jump, elapsed


def _deviation(anchor: datetime, spread: timedelta, low: datetime, high: datetime) -> timedelta:
    """Return by how much an interval misses an anchor that may be `spread` more; positive: the store's clock is ahead."""
    latest = anchor + spread
    return low - latest if low > latest else min(high - anchor, _NOTHING)


def newest_other(records: tuple[ClockRecord, ...], boot: str) -> datetime | None:
    """Return the newest time that was seen in other boots than this one."""
    return max((r.seen_time for r in records if r.boot_id != boot), default=None)


def of_boot(records: tuple[ClockRecord, ...], boot: str) -> ClockRecord | None:
    """Return the record of a boot; None: there is none."""
    return next((r for r in records if r.boot_id == boot), None)


def moved_key(key: Key, jump: timedelta, now: datetime) -> Key:
    """Return a key whose times have moved with the clock, so that it keeps what it still has to wait.

    A clock that goes back leaves tokens that expire later than it was known: then a retired key is not withdrawn any earlier.

    Args:
        key: The key.
        jump: By how much the clock was set.
        now: The time before that.
    """
    names = ["publish_time", "ready_time", "retire_time", "revoke_time", "destroy_time", "disable_time"]
    if key.withdraw_time is not None and (jump > _NOTHING or key.withdraw_time <= now):
        names += ["withdraw_time", "destroy_due_time"]
    return replace(key, **{name: time + jump for name in names if (time := getattr(key, name)) is not None})


def moved_intent(intent: Intent, jump: timedelta) -> Intent:
    """Return an intent whose times have moved with the clock."""
    names = ("create_time", "claim_expire_time", "asked_time", "made_time", "abandon_time", "close_time")
    return replace(intent, **{name: time + jump for name in names if (time := getattr(intent, name)) is not None})


def moved_clock(record: ClockRecord, jump: timedelta, now: datetime) -> ClockRecord:
    """Return what the store knows of another machine's clock after a jump was settled.

    That machine has seen the same jump: by this it finds out that the times have moved, and does not move them once more. One that
    has started after a jump forward has been going by the new time already.

    Args:
        record: What was known.
        jump: By how much the clock was set.
        now: The time before that.
    """
    if record.seen_time - now > jump / 2 > _NOTHING:
        return record
    return replace(record, zero=record.zero + jump, seen_time=record.seen_time + jump)


def moved_limits(limits: Limits, jump: timedelta) -> Limits:
    """Return limits that cover the tokens from before a clock went back: they expire later, by that much."""
    return replace(limits, max_lifetime=limits.max_lifetime + max(-jump, _NOTHING))
