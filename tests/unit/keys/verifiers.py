"""Judges a `History`: could a verifier have met a token whose key it did not have?

Nothing is left to chance here. Signing and fetching may happen at every instant at which they are possible, so for each
read of each replica it is worked out from when to when it could sign with which key, and from when to when it served a
set without which key; then from when to when a verifier could have gone on using that set. A token fails where the two
overlap. `play` then acts the failure out, with a cache and a verifier that know nothing of this arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Limits

from .history import Flaws, History, Life, Read, Row, seconds

FOREVER = 10**9
INSTANT = 0.25
"""So short before the end of something: events happen on whole seconds, but fetches whenever they like."""


@dataclass(frozen=True, slots=True)
class Use:
    """A replica could release tokens signed with the key from `first` to `last`, of which one lives until before `end`."""

    kid: str
    first: int
    last: int
    lifetime: int


@dataclass(frozen=True, slots=True)
class Gap:
    """A replica served a set without the key from `begin` until before `end`."""

    kid: str
    begin: int
    end: int
    row: Row
    fresh_until: int
    withdrawn: bool


@dataclass(frozen=True, slots=True)
class Failure:
    """A verifier fetched a set without the key in `gap` and may meet at `time` a token that was released at `released`."""

    use: Use
    gap: Gap
    released: int
    fetched: float
    time: int


def _windows(life: Life) -> Iterator[tuple[Read, int]]:
    """Yield each read and the time at which it was replaced."""
    followers = [*(r.installed for r in life.reads), FOREVER][1:]
    for read, follower in zip(life.reads, followers, strict=True):
        yield read, min(follower, FOREVER if life.died is None else life.died)


def _limits(read: Read, life: Life, flaws: Flaws) -> Limits:
    return life.config if flaws.limits_from_own_file else read.row.limits


def uses(history: History, flaws: Flaws) -> Iterator[Use]:
    """Yield what the replicas could have signed."""
    for life in history.lives:
        for read, replaced in _windows(life):
            limits = _limits(read, life, flaws)
            since = read.installed if flaws.fresh_since_end_of_read else read.start
            stale = since + seconds(limits.max_serve_age if flaws.ignore_staleness else limits.max_staleness)
            last = min(replaced, stale)
            if last < read.installed:
                continue
            for begin, end in life.spans(read.installed, last):
                yield from _signed(read, life, begin, end, seconds(limits.max_lifetime))


def _signed(read: Read, life: Life, begin: int, last: int, lifetime: int) -> Iterator[Use]:
    ready = {life.true(k.ready_time) for k in read.row.keys if k.ready_time}
    moments = sorted({begin} | {t for t in ready if begin < t <= last})
    met: set[str] = set()
    for moment in moments:
        for key in lifecycle.signers(read.row.keys, life.clock(moment), life.order):
            if key.kid not in met:
                met.add(key.kid)
                yield Use(key.kid, moment, last, lifetime)


def gaps(history: History) -> Iterator[Gap]:
    """Yield the sets that were served without a key that there was or was to be."""
    kids = {k.kid for row in history.rows for k in row.keys}
    for life in history.lives:
        for read, replaced in _windows(life):
            keys, limits = read.row.keys, read.row.limits
            stop = min(replaced, read.start + seconds(limits.max_serve_age))
            if not keys or stop <= read.installed:
                continue
            ends = {life.true(k.withdraw_time) for k in keys if k.withdraw_time}
            cuts = sorted({read.installed, stop} | {t for t in ends if read.installed < t < stop})
            fresh_until = read.start + seconds(limits.max_staleness)
            known = {k.kid for k in keys}
            for begin, end in pairwise(cuts):
                served = {k.kid for k in lifecycle.jwks(keys, life.clock(begin))}
                for kid in kids - served:
                    yield Gap(kid, begin, end, read.row, fresh_until, kid in known)


def failures(history: History, flaws: Flaws) -> Iterator[Failure]:
    """Yield the tokens that a verifier could not have verified, though it did all that it must."""
    by_kid: dict[str, list[tuple[Gap, int]]] = {}
    for gap in gaps(history):
        kept = 2 * seconds(gap.row.limits.max_age + gap.row.limits.stale_if_error)
        by_kid.setdefault(gap.kid, []).append((gap, gap.end + kept))
    skew = seconds(history.rows[0].limits.verifier_skew)
    for use in uses(history, flaws):
        end = use.last + use.lifetime + skew
        for gap, last in by_kid.get(use.kid, ()):
            # Most are far apart, and this is soon said.
            failure = _meet(history, use, gap) if use.first < last and gap.begin < end else None
            if failure is not None:
                yield failure


def surprises(history: History, flaws: Flaws, refresh: int) -> Iterator[tuple[Use, Gap]]:
    """Yield the first tokens of new series that a verifier could refuse that keeps a set for `refresh`, whatever it says.

    It does not look again for an unknown kid. A shared cache may have given it a set that is as old as the headers permit.
    """
    missing: dict[str, list[Gap]] = {}
    for gap in gaps(history):
        if not gap.withdrawn:
            missing.setdefault(gap.kid, []).append(gap)
    for use in uses(history, flaws):
        if use.kid not in history.opened or use.kid in history.hurried:
            continue
        for gap in missing.get(use.kid, ()):
            limits = gap.row.limits
            fetched = min(gap.end, gap.fresh_until) + seconds(limits.max_age + limits.stale_if_error)
            if max(use.first, gap.begin) < min(fetched + refresh, history.revoked.get(use.kid, FOREVER)):
                yield use, gap


def _meet(history: History, use: Use, gap: Gap) -> Failure | None:
    """Find a token and a verifier's copy of the set that meet.

    Promises are bounded: a revoked key's tokens may die with the revocation. A key that an emergency made ready at once has
    the usual promise only once its lead is over. A replica that is cut off for longer than S hands out old sets, which only
    a scheduled rotation waits for.
    """
    first, end_of_gap = use.first, gap.end
    if not gap.withdrawn:
        planned = history.planned.get(use.kid, FOREVER)
        if planned <= use.last:
            whole = _overlap(history, use, gap, max(first, planned), gap.end)
            if whole is not None:
                return whole
        end_of_gap = min(gap.end, gap.fresh_until)
        if use.kid in history.hurried:
            limits = history.rows[-1].limits
            keep = 2 * seconds(limits.max_age + limits.stale_if_error)
            first = max(first, history.visible[use.kid] + seconds(limits.max_staleness) + keep)
    return _overlap(history, use, gap, first, end_of_gap)


def _overlap(history: History, use: Use, gap: Gap, first: int, end_of_gap: int) -> Failure | None:
    """Find the first moment at which a live token and a copy of the set meet.

    The verifier's clock is behind the signing replica's by all that it may be.
    """
    limits = gap.row.limits
    kept = 2 * seconds(limits.max_age + limits.stale_if_error)
    skew = seconds(history.rows[0].limits.verifier_skew)
    if first > use.last or gap.begin >= end_of_gap:
        return None
    begin = max(first, gap.begin)
    end = min(use.last + use.lifetime + skew, end_of_gap + kept, history.revoked.get(use.kid, FOREVER))
    if begin >= end:
        return None
    return Failure(use, gap, min(begin, use.last), min(begin, end_of_gap - INSTANT), begin)


# -- acting a failure out -------------------------------------------------------------------------


@dataclass(slots=True)
class Copy:
    """A JWK Set as somebody holds it, and for how long RFC 9111 and RFC 5861 let them."""

    kids: frozenset[str]
    got: float
    max_age: int
    stale_if_error: int

    def fresh(self, now: float) -> bool:
        return now - self.got < self.max_age

    def usable(self, now: float) -> bool:
        """Tell whether the copy may be used where the source does not answer."""
        return now - self.got < self.max_age + self.stale_if_error


class SharedCache:
    """An HTTP cache that keeps what it has as long as it may, and hands it on."""

    def __init__(self, copy: Copy) -> None:
        self.copy = copy

    def get(self, now: float) -> Copy | None:
        """Answer while the origin is out of reach."""
        return Copy(self.copy.kids, now, self.copy.max_age, self.copy.stale_if_error) if self.copy.usable(now) else None


class Verifier:
    """Ignores `Age`, does not fetch again for an unknown kid, and uses an old set where it cannot fetch."""

    def __init__(self) -> None:
        self.copy: Copy | None = None

    def verify(self, kid: str, now: float, source: SharedCache) -> bool | None:
        """Tell whether the kid is known; None where there is no set at all."""
        if self.copy is None or not self.copy.fresh(now):
            answer = source.get(now)
            if answer is not None:
                self.copy = answer
            elif self.copy is None or not self.copy.usable(now):
                return None
        return kid in self.copy.kids


def play(failure: Failure, served: frozenset[str]) -> bool:
    """Act a failure out and tell whether the token fails.

    The cache fetches from the replica in the gap, and the verifier asks the cache as late as the cache still answers.
    """
    limits = failure.gap.row.limits
    age, error = seconds(limits.max_age), seconds(limits.stale_if_error)
    cache = SharedCache(Copy(served, failure.fetched, age, error))
    verifier = Verifier()
    verifier.verify(failure.use.kid, min(failure.time, failure.fetched + age + error - INSTANT), cache)
    return verifier.verify(failure.use.kid, failure.time, cache) is False
