"""What happened in a simulation: the store's rows, and what each replica had read of them when.

True time is a whole number of seconds. A replica's clock shows true time and its error.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.steps import SeriesPolicy

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER = "bar"


Delay = int
Actor = Generator[Delay, None, None]
"""Something that acts, and says how long it then does nothing."""


def seconds(span: timedelta) -> int:
    return int(span.total_seconds())


def span(length: int) -> timedelta:
    return timedelta(seconds=length)


@dataclass(frozen=True, slots=True)
class Flaws:
    """Ways in which an implementation may break the rules; a sound one has none.

    `law` is what the writers take for the limits' arithmetic. The headers, lifetimes and freshness that replicas obey
    come from the row as it is.
    """

    law: Callable[[Limits], Limits] = lambda limits: limits
    deadline_with_fact: bool = False
    clock_before_read: bool = False
    keep_publish_time: bool = False
    no_compare: bool = False
    every_key_ready_at_once: bool = False
    limits_from_own_file: bool = False
    ignore_staleness: bool = False
    fresh_since_end_of_read: bool = False
    follows_any_first_read: bool = False


SOUND = Flaws()


@dataclass(frozen=True, slots=True)
class Row:
    """What the store holds of the issuer from one commit to the next."""

    time: int
    keys: tuple[Key, ...]
    intents: Mapping[str, int]
    limits: Limits


@dataclass(frozen=True, slots=True)
class Read:
    """A confirmed answer of the store.

    Attributes:
        start: When the last read began that gave this answer.
        installed: When the replica first obeyed it.
        row: The answer.
    """

    start: int
    installed: int
    row: Row


@dataclass(slots=True, eq=False)
class Life:
    """A replica from one start to the next."""

    error: int
    config: Limits
    policies: Sequence[SeriesPolicy]
    reads: list[Read] = field(default_factory=list)
    died: int | None = None
    connected: bool = False
    deaf_until: int = 0
    writer: Actor | None = None
    reader: Actor | None = None

    def clock(self, time: int) -> datetime:
        return EPOCH + span(time + self.error)

    def true(self, told: datetime) -> int:
        return seconds(told - EPOCH) - self.error

    def spans(self, begin: int, last: int) -> list[tuple[int, int]]:
        """Return when it may sign in a period, both ends included."""
        return [(begin, last)]

    @property
    def order(self) -> list[str]:
        return [p.name for p in self.policies]


@dataclass(frozen=True, slots=True)
class Rotation:
    """A scheduled one: when which key made way for which other, under which limits, and the index of its commit."""

    time: int
    head: str
    heir: str
    series: str
    limits: Limits
    index: int


@dataclass(slots=True)
class History:
    """All that happened.

    Attributes:
        rows: The store's states, in order.
        lives: The replicas, one for each start.
        visible: True time of the commit that published each kid.
        first: The kids of the very first set.
        planned: True time from which the schedule, not a person or a failure, lets each kid sign.
        hurried: The kids that an emergency made ready at once.
        opened: The kids of series that were new to verifiers.
        revoked: True time of the commit that revoked each kid.
        rotations: The scheduled ones.
        seen: What happened how often, so that a test can tell that the simulation is not idle.
    """

    rows: list[Row]
    lives: list[Life] = field(default_factory=list)
    visible: dict[str, int] = field(default_factory=dict)
    first: set[str] = field(default_factory=set)
    planned: dict[str, int] = field(default_factory=dict)
    hurried: set[str] = field(default_factory=set)
    opened: set[str] = field(default_factory=set)
    revoked: dict[str, int] = field(default_factory=dict)
    rotations: list[Rotation] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1


def new_key(kid: str, series: str, ordinal: int, now: datetime) -> Key:
    return Key(
        kid=kid,
        issuer=ISSUER,
        series=series,
        ordinal=ordinal,
        algorithm="ES256",
        provider="aws",
        uri=f"awskms:///{kid}",
        public_key=kid.encode(),
        publish_time=now,
    )
