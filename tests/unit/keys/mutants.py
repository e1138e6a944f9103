"""Histories at the extremes, and the rules broken one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from sealwright.keys.lifecycle import Limits
from sealwright.keys.steps import SeriesPolicy

from .history import SOUND, Flaws, span
from .timeline import World
from .verifiers import failures

if TYPE_CHECKING:
    from collections.abc import Callable

    from .history import History
    from .verifiers import Failure

EVENTS = 800


@dataclass(frozen=True, kw_only=True)
class Shortened(Limits):
    """Limits whose sums lack something."""

    lead_cut: timedelta = timedelta()
    tail_cut: timedelta = timedelta()
    wait_cut: timedelta = timedelta()

    def lead(self, min_lead: timedelta) -> timedelta:
        return max(min_lead, super().lead(timedelta()) - self.lead_cut)

    @property
    def tail(self) -> timedelta:
        return super().tail - self.tail_cut

    @property
    def scheduled_wait(self) -> timedelta:
        return super().scheduled_wait - self.wait_cut


def shortened(total: str, term: str, limits: Limits) -> Limits:
    """Return limits of which `total` (lead, tail or wait) lacks one `term`."""
    values = {name: getattr(limits, name) for name in Limits.__dataclass_fields__}
    return Shortened(**values, **{f"{total}_cut": values[term]})


def law(total: str, term: str) -> Callable[[Limits], Limits]:
    return partial(shortened, total, term)


S, A, E = "max_staleness", "max_age", "stale_if_error"
L, K, SERVE = "max_lifetime", "verifier_skew", "max_serve_age"

MUTANTS: dict[str, Flaws] = {
    **{f"lead without {t}": Flaws(law=law("lead", n)) for t, n in (("S", S), ("one A", A), ("one E", E), ("K", K))},
    **{f"tail without {t}": Flaws(law=law("tail", n)) for t, n in (("S", S), ("L", L), ("one K", K))},
    **{
        f"scheduled wait without {t}": Flaws(law=law("wait", n))
        for t, n in (("max_serve_age", SERVE), ("one A", A), ("one E", E), ("K", K))
    },
    "deadline written with its fact": Flaws(deadline_with_fact=True),
    "clock read before the store": Flaws(clock_before_read=True),
    "publish_time not stamped again": Flaws(keep_publish_time=True),
    "no compare-and-swap": Flaws(no_compare=True),
    "every key ready at once": Flaws(every_key_ready_at_once=True),
    "limits from the own file": Flaws(limits_from_own_file=True),
    "signs on a stale read": Flaws(ignore_staleness=True),
    "freshness counted from the end of the read": Flaws(fresh_since_end_of_read=True),
}


def extreme_world(rng: Random, flaws: Flaws = SOUND) -> World:
    """Set up replicas and limits; every limit is small, so that none hides behind another."""
    error = rng.choice((0, 1, 5, 5))
    staleness = rng.choice((3, 15))
    limits = Limits(
        max_staleness=span(staleness),
        max_age=span(rng.choice((2, 11))),
        stale_if_error=span(rng.choice((0, 3, 10, 10))),
        max_lifetime=span(rng.choice((1, 60))),
        verifier_skew=span(max(1, 2 * error + rng.choice((0, 0, 1)))),
        max_serve_age=span(staleness + rng.choice((0, 1, 90))),
    )
    lead = limits.lead(timedelta())
    min_lead = rng.choice((*[timedelta()] * 4, lead - span(1), lead + span(1), 2 * lead))
    periods = (None, span(1), lead, limits.scheduled_wait + span(1))
    policies = [
        SeriesPolicy(name=f"s{i}", rotation_period=rng.choice(periods), min_lead=min_lead)
        for i in range(rng.choice((1, 1, 2)))
    ]
    migrating, raising = rng.randrange(4) == 0, rng.randrange(2) == 0
    return World(rng, limits, policies, error, rng.choice((1, 2, 3, 4, 4)), migrating, raising, flaws)


def simulate(rng: Random, flaws: Flaws = SOUND, events: int = EVENTS) -> tuple[History, list[Failure]]:
    """Run one history and return it with the tokens that a verifier could not have verified."""
    history = extreme_world(rng, flaws).run(events)
    return history, list(failures(history, flaws))


def seeded(seed: int, flaws: Flaws = SOUND) -> tuple[History, list[Failure]]:
    """Run the history of a seed, the same every time."""
    return simulate(Random(seed), flaws)  # noqa: S311 - nothing is secret here
