"""The simulation of `timeline.py` on several hosts: each has a clock of its own, and goes by the store's, which fails over.

A replica never goes by its own clock. It knows the store's from its last read, and carries it on by its stopwatch (the real
`Timekeeper`). So it lags by what the read took, and does not notice that another server with another clock has taken over the
database until it reads again. It neither signs nor writes while its own clock differs from the store's too much.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import zip_longest
from random import Random

from sealwright.keys.lifecycle import Limits
from sealwright.keys.steps import SeriesPolicy
from sealwright.keys.timekeeping import Timekeeper

from .history import EPOCH, SOUND, Actor, Flaws, History, Life, seconds, span
from .mutants import EVENTS, MUTANTS, extreme_world
from .timeline import World
from .verifiers import FOREVER, Failure, failures

FAR = 10**5
"""By how much the clock of a server may be ahead, in seconds: more than any wait."""
HOST_MUTANTS = {**MUTANTS, "any first read of the store's clock is followed": Flaws(follows_any_first_read=True)}


@dataclass(frozen=True, slots=True)
class Segment:
    """What a host knew of the time from one read to the next.

    Attributes:
        begin: True time of the end of the read.
        zero: The store's time at true time zero, carried back.
        floor: The time is never before this.
        able: Whether it may sign and write.
    """

    begin: int
    zero: int
    floor: int
    able: bool

    def goes_on_as(self, other: Segment) -> bool:
        """Return whether a later segment is only this one's continuation."""
        same = (self.zero, self.able) == (other.zero, other.able)
        return same and other.floor <= self.told(other.begin) == self.zero + other.begin

    def told(self, time: int) -> int:
        """Return the time that the host goes by."""
        return max(self.floor, self.zero + time)


@dataclass(slots=True, eq=False)
class HostLife(Life):
    """A replica whose time is the store's, as it was read. `error` is that of its own clock.

    Attributes:
        tolerance: `max_clock_error`.
        trusting: It does not compare its first read with its own clock.
    """

    tolerance: int = 0
    trusting: bool = False
    segments: list[Segment] = field(default_factory=list)
    keeper: Timekeeper = field(init=False)

    def __post_init__(self) -> None:
        self.keeper = Timekeeper(span(self.tolerance))

    def look(self, told: int, started: int, ended: int) -> None:
        """Read the store's clock.

        Args:
            told: What it showed.
            started: When the read began.
            ended: When it ended.
        """
        keeper = self.keeper
        wall = None if self.trusting else EPOCH + span(ended + self.error)
        keeper.read(EPOCH + span(told), started=started, ended=ended, wall=wall)
        off = ended + self.error - told
        wrong = max(-off, off - (ended - started), 0)
        able = keeper.jump is None and wrong <= self.tolerance
        found = Segment(ended, seconds(keeper.zero - EPOCH), seconds(keeper.floor - EPOCH), able)
        if not self.segments or not self.segments[-1].goes_on_as(found):
            self.segments.append(found)

    def clock(self, time: int) -> datetime:
        index = bisect_right(self.segments, time, key=lambda s: s.begin)
        return EPOCH + span(self.segments[index - 1].told(time) if index else time + self.error)

    def true(self, told: datetime) -> int:
        """Return the first instant at which it is so late."""
        wanted = seconds(told - EPOCH)
        for segment, end in self._segments():
            if segment.told(segment.begin) >= wanted:
                return segment.begin
            if wanted - segment.zero < end:
                return wanted - segment.zero
        return wanted - self.error

    @property
    def able(self) -> bool:
        """Whether it may sign and write now."""
        return bool(self.segments) and self.segments[-1].able

    def spans(self, begin: int, last: int) -> list[tuple[int, int]]:
        found = [(max(begin, s.begin), min(last, end)) for s, end in self._segments() if s.able]
        return [(b, e) for b, e in found if b <= e]

    def _segments(self) -> Iterator[tuple[Segment, int]]:
        """Yield each segment and its end."""
        for segment, follower in zip_longest(self.segments, self.segments[1:]):
            yield segment, FOREVER if follower is None else follower.begin


@dataclass(slots=True)
class Hosts(World):
    """Replicas on several hosts, and a database whose servers' clocks are each wrong by up to `max_clock_error`.

    Attributes:
        errors: By how much the clock of the primary was wrong since when.
    """

    errors: list[tuple[int, int]] = field(default_factory=lambda: [(0, 0)])

    def __post_init__(self) -> None:
        World.__post_init__(self)
        self._schedule(0, None, self._database())

    def _life(self, config: Limits, policies: Sequence[SeriesPolicy]) -> Life:
        most = self.max_clock_error
        error = self.rng.choice((0, 0, -most, most))
        return HostLife(error, config, policies, tolerance=most, trusting=self.flaws.follows_any_first_read)

    def _looked(self, life: Life, start: int, answered: int) -> None:
        """The store's clock was read after the rows: right then, or just before the answer arrived."""
        assert isinstance(life, HostLife)
        sample = self.rng.choice((answered, self.now))
        error = next(error for since, error in reversed(self.errors) if since <= sample)
        life.look(sample + error, start, self.now)

    def _refreshed(self, life: Life, started: int) -> bool:
        """A read that took longer than S is too old to write by."""
        assert isinstance(life, HostLife)
        self._looked(life, started, started)
        return life.able and self.now - started <= seconds(self.latest.limits.max_staleness)

    def _database(self) -> Actor:
        """Fail over to a server with another clock. Replicas that are connected have seen the old one to the last.

        Now and then that clock is far ahead, until the next failover: hosts that start meanwhile know no other but their own.
        """
        most = self.max_clock_error
        while True:
            yield sum(self.rng.choices(self.spans, k=4))
            self._fail_over(self.rng.choice((-most, 0, most)))
            if self.rng.randrange(4) == 0:
                yield sum(self.rng.choices(self.spans, k=2))
                self.history.count("far ahead")
                self._fail_over(FAR)
                yield self.rng.choice(self.spans)
                self._fail_over(self.rng.choice((-most, 0, most)))

    def _fail_over(self, error: int) -> None:
        self._confirm_all()
        self.errors.append((self.now, error))
        self._confirm_all()
        self.history.count("failover")

    def _confirm_all(self) -> None:
        for life in self.history.lives:
            self._confirm(life)


def hosts_world(rng: Random, flaws: Flaws = SOUND) -> Hosts:
    """Set up at least two hosts, and limits as `extreme_world` does."""
    one = extreme_world(rng, flaws)
    return Hosts(
        rng, one.limits, one.policies, one.max_clock_error, max(2, one.replicas), one.migrating, one.raising, flaws
    )


def seeded_hosts(seed: int, flaws: Flaws = SOUND) -> tuple[History, list[Failure]]:
    """Run the history of a seed, the same every time."""
    history = hosts_world(Random(seed), flaws).run(EVENTS)  # noqa: S311 - nothing is secret here
    return history, list(failures(history, flaws))
