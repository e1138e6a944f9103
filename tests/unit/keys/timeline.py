"""A discrete-event simulation of replicas that rotate, publish and sign, run on the real `sealwright.keys.lifecycle`.

It produces a `History`: what the store held when, and what each replica had read when. What the replicas could have
signed and served, and whether a verifier could have met a token whose key it lacked, is judged in `verifiers.py`.

True time is a whole number of seconds. A replica's clock is true time and its error.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random

from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Create, Key, Limits, Retire, SeriesPolicy, SetReady, Step

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
ISSUER = "bar"


Delay = int
Actor = Generator[Delay, None, None]

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

    @property
    def order(self) -> list[str]:
        return [p.name for p in self.policies]


@dataclass(frozen=True, slots=True)
class Rotation:
    """A scheduled one: when which key made way for which other, and what the limits were."""

    time: int
    head: str
    heir: str
    series: str
    limits: Limits


@dataclass(slots=True)
class History:
    """All that happened.

    Attributes:
        rows: The store's states, in order.
        lives: The replicas, one for each start.
        visible: True time of the commit that published each kid.
        planned: True time from which the schedule, not a person or a failure, lets each kid sign.
        hurried: The kids that an emergency made ready at once.
        revoked: True time of the commit that revoked each kid.
        rotations: The scheduled ones.
        seen: What happened how often, so that a test can tell that the simulation is not idle.
    """

    rows: list[Row]
    lives: list[Life] = field(default_factory=list)
    visible: dict[str, int] = field(default_factory=dict)
    planned: dict[str, int] = field(default_factory=dict)
    hurried: set[str] = field(default_factory=set)
    revoked: dict[str, int] = field(default_factory=dict)
    rotations: list[Rotation] = field(default_factory=list)
    seen: dict[str, int] = field(default_factory=dict)

    def count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1


@dataclass(frozen=True, slots=True)
class Publish:
    """Make the keys of open intents and put them into the set."""

    intents: Mapping[str, int]


@dataclass(slots=True)
class World:
    """The store, the replicas and the operator, moved on by one random source.

    Pauses are mostly nothing, so that something happens, and else exactly as long as one of the limits, or a second less
    or more, since it is there that the arithmetic is wrong if it is wrong.
    """

    rng: Random
    limits: Limits
    policies: Sequence[SeriesPolicy]
    max_clock_error: int
    replicas: int
    migrating: bool = False
    raising: bool = True
    flaws: Flaws = SOUND
    now: int = 0
    made: int = 0
    history: History = field(init=False)
    agenda: list[tuple[int, int, Life | None, Actor]] = field(init=False, default_factory=list)
    spans: list[int] = field(init=False)

    def __post_init__(self) -> None:
        first = Row(0, (), {}, self.limits)
        self.history = History([first])
        self.spans = self._spans()
        for _ in range(self.replicas):
            self._start(self.limits, self.policies)
        self._schedule(0, None, self._operator())

    @property
    def latest(self) -> Row:
        return self.history.rows[-1]

    def run(self, events: int) -> History:
        """Let so many things happen."""
        for _ in range(events):
            self.now, _, life, actor = heapq.heappop(self.agenda)
            if life is not None and (life.died is not None or self._superseded(life, actor)):
                continue
            delay = next(actor, None)
            if delay is not None:
                self._schedule(delay, life, actor)
            if life is not None and self.rng.randrange(150) == 0:
                self._crash(life)
        for life in self.history.lives:
            self._confirm(life)
        return self.history

    def _spans(self) -> list[int]:
        limits = self.latest.limits
        own = [limits.max_staleness, limits.max_lifetime, limits.verifier_skew, limits.max_serve_age]
        made = [limits.lead(self.policies[0].min_lead), limits.tail, limits.scheduled_wait]
        return sorted({max(0, seconds(s) + d) for s in own + made for d in (-1, 0, 1)})

    def _schedule(self, delay: Delay, life: Life | None, actor: Actor) -> None:
        self.made += 1
        heapq.heappush(self.agenda, (self.now + delay, self.made, life, actor))

    def _superseded(self, life: Life, actor: Actor) -> bool:
        return actor not in (life.writer, life.reader)

    def _pause(self) -> Delay:
        kind = self.rng.randrange(8)
        return 0 if kind < 5 else 1 if kind == 5 else self.rng.choice(self.spans)

    # -- replicas ---------------------------------------------------------------------------------

    def _start(self, config: Limits, policies: Sequence[SeriesPolicy]) -> None:
        error = self.rng.choice((-self.max_clock_error, 0, self.max_clock_error))
        life = Life(error, config, policies)
        self.history.lives.append(life)
        self._read_after(0, life)
        life.writer = self._writer(life)
        self._schedule(0, life, life.writer)

    def _crash(self, life: Life) -> None:
        self._confirm(life)
        life.died = self.now
        self.history.count("crash")
        policies = self.rng.choice((life.policies, self.policies, [self._other(p) for p in self.policies]))
        self._schedule(self._pause(), None, self._restart(life.config, policies))

    def _other(self, policy: SeriesPolicy) -> SeriesPolicy:
        period = self.rng.choice((None, span(1), policy.rotation_period))
        return replace(policy, rotation_period=period, min_lead=self.rng.choice((span(0), policy.min_lead)))

    def _restart(self, config: Limits, policies: Sequence[SeriesPolicy]) -> Actor:
        self._start(config, policies)
        yield from ()

    def _read_after(self, delay: Delay, life: Life, answer: Row | None = None) -> None:
        life.reader = self._reader(life, answer)
        self._schedule(delay, life, life.reader)

    def _reader(self, life: Life, answer: Row | None) -> Actor:
        while True:
            start = self.now
            if answer is None:
                yield self._pause()
                answer = self.latest
            yield self._pause()
            life.reads.append(Read(start, self.now, answer))
            answer = None
            silence = self.rng.choice((1, *self.spans))
            life.connected = self.rng.randrange(3) > 0
            life.deaf_until = self.now + self.rng.choice((0, 0 if life.connected else silence))
            yield silence + life.connected * self.spans[-1]

    def _confirm(self, life: Life) -> None:
        """A replica that is connected polls all the time, so its last read is as young as can be."""
        if life.connected and life.died is None and life.reads[-1].row is self.latest:
            life.reads[-1] = replace(life.reads[-1], start=self.now)

    def _aim(self, before: Row) -> None:
        """After a commit: some replicas hear of it at once, some read just before it and then nothing for long."""
        for life in self.history.lives:
            what = self.rng.randrange(4)
            if life.died is not None or life.deaf_until > self.now:
                continue
            life.connected = False
            if what > 1:
                self._read_after(0, life)
            elif what == 1:
                self._read_after(0, life, before)
            else:
                self._read_after(self.rng.choice(self.spans), life)

    # -- writers ----------------------------------------------------------------------------------

    def _writer(self, life: Life) -> Actor:
        while True:
            early = life.clock(self.now)
            if self.flaws.clock_before_read:
                yield self._pause()
            row = self.latest
            yield self._pause()
            work = self._due(row, life)
            if not work:
                yield self._idle(row, life)
                continue
            task = self.rng.choice(work)
            yield self._pause()
            after = self._carry_out(task, row, life, early if self.flaws.clock_before_read else life.clock(self.now))
            yield self._pause()
            if self._commit(row, after):
                self._note(task, row)
            yield self._pause()

    def _due(self, row: Row, life: Life) -> list[Step | Publish]:
        law = self.flaws.law(row.limits)
        steps = lifecycle.next_steps(row.keys, life.policies, law, row.intents, life.clock(self.now))
        intents = {name: n for name, n in row.intents.items() if n}
        return [*steps, Publish(intents)] if intents else list(steps)

    def _idle(self, row: Row, life: Life) -> Delay:
        law = self.flaws.law(row.limits)
        due = [t for p in life.policies if (t := lifecycle.rotation_time(row.keys, p, law))]
        waits = [max(1, life.true(t) - self.now) for t in due]
        return self.rng.choice((1, self._pause() + 1, *waits, *waits))

    def _carry_out(self, task: Step | Publish, row: Row, life: Life, now: datetime) -> Row:
        match task:
            case Create(series, count):
                return replace(row, intents={**row.intents, series: row.intents.get(series, 0) + count})
            case Publish(intents):
                return self._publish(intents, row, life, now)
            case _:
                keys = tuple(self._apply(k, task, row, now) if k.kid == task.kid else k for k in row.keys)
                return replace(row, keys=keys)

    def _apply(self, key: Key, step: Step, row: Row, now: datetime) -> Key:
        after = lifecycle.apply_step(key, step, now)
        if self.flaws.keep_publish_time and isinstance(step, SetReady):
            return replace(after, publish_time=key.publish_time)
        if self.flaws.deadline_with_fact and isinstance(step, Retire):
            return replace(after, withdraw_time=now + self.flaws.law(row.limits).tail)
        return after

    def _publish(self, intents: Mapping[str, int], row: Row, life: Life, now: datetime) -> Row:
        at_once = (not row.keys and not self.migrating) or self.flaws.every_key_ready_at_once
        leads = {p.name: p.min_lead for p in life.policies}
        keys = list(row.keys)
        for series, count in intents.items():
            for _ in range(count):
                self.made += 1
                ordinal = 1 + max((k.ordinal for k in keys if k.series == series), default=0)
                key = new_key(f"{self.rng.randrange(1000):03}-{self.made}", series, ordinal, now)
                if at_once:
                    key = replace(key, ready_time=now)
                elif self.flaws.deadline_with_fact and series in leads:
                    key = replace(key, ready_time=now + self.flaws.law(row.limits).lead(leads[series]))
                keys.append(key)
        left = {name: n - intents.get(name, 0) for name, n in row.intents.items()}
        return replace(row, keys=tuple(keys), intents=left)

    def _commit(self, seen: Row, after: Row) -> bool:
        before = self.latest
        if before is not seen:
            self.history.count("lost race")
            if not self.flaws.no_compare:
                return False
            known = {k.kid for k in after.keys}
            after = replace(after, keys=after.keys + tuple(k for k in before.keys if k.kid not in known))
        for life in self.history.lives:
            self._confirm(life)
        self.history.rows.append(replace(after, time=self.now))
        self._aim(before)
        return True

    def _note(self, task: Step | Publish, row: Row) -> None:
        """Write down what a commit means for the promises, in true time."""
        self.history.count(type(task).__name__)
        match task:
            case Publish():
                fresh = [k for k in self.latest.keys if k not in row.keys]
                self.history.visible.update({k.kid: self.now for k in fresh})
                if not row.keys:
                    self.history.planned.update({k.kid: self.now for k in fresh})
            case Retire(kid):
                series = next(k.series for k in row.keys if k.kid == kid)
                heir = lifecycle.queue(self.latest.keys, series)[0]
                self.history.planned.setdefault(heir.kid, self.now)
                self.history.rotations.append(Rotation(self.now, kid, heir.kid, series, row.limits))

    # -- people -----------------------------------------------------------------------------------

    def _operator(self) -> Actor:
        acts = (self._rotate, self._rotate, self._revoke, self._raise if self.raising else self._wait, self._wait)
        while True:
            yield self._pause() + self.rng.choice((1, *self.spans))
            yield from self.rng.choice(acts)()

    def _living(self) -> Life | None:
        living = [life for life in self.history.lives if life.died is None]
        return self.rng.choice(living) if living else None

    def _wait(self) -> Actor:
        yield self.spans[-1]

    def _rotate(self) -> Actor:
        """Rotate by hand, as soon as that is allowed."""
        life, row = self._living(), self.latest
        due = lifecycle.handover_time(row.keys, self.rng.choice(self.policies).name)
        if life is None or due is None:
            return
        yield max(0, life.true(due) - self.now) + self._pause()
        for policy in self.policies:
            line = lifecycle.queue(row.keys, policy.name)
            due = lifecycle.handover_time(row.keys, policy.name)
            if due is None or due > life.clock(self.now):
                continue
            after = self._carry_out(Retire(line[0].kid), row, life, life.clock(self.now))
            yield self._pause()
            if self._commit(row, after):
                self.history.count("rotation by hand")
            return

    def _revoke(self) -> Actor:
        row, life = self.latest, self._living()
        old = [k for k in row.keys if not k.revoke_time]
        if life is None or not old or self.rng.randrange(2):
            return
        now = life.clock(self.now)
        lost = self.rng.choice(old)
        keys = tuple(replace(k, revoke_time=now) if k.kid == lost.kid else k for k in row.keys)
        step = lifecycle.emergency(keys, now, life.order)
        if step is not None:
            keys = tuple(lifecycle.apply_step(k, step, now) if k.kid == step.kid else k for k in keys)
        yield self._pause()
        if self._commit(row, replace(row, keys=keys)):
            self.history.revoked[lost.kid] = self.now
            self.history.count(f"revocation of {lifecycle.state(lost, row.keys, now).lower()}")
            if step is not None:
                self.history.hurried.add(step.kid)
                self.history.count("emergency")

    def _raise(self) -> Actor:
        """Restart a replica with longer limits in its file; the row follows later."""
        life = self._living()
        if life is None:
            return
        name = self.rng.choice(("max_staleness", "max_age", "stale_if_error", "max_lifetime", "max_lifetime", "max_serve_age"))
        limit: timedelta = getattr(life.config, name)
        longer = replace(life.config, **{name: limit + self.rng.choice((span(1), limit, 5 * limit))})
        self._confirm(life)
        life.died = self.now
        self._start(longer, life.policies)
        yield self._pause()
        row = self.latest
        if self._commit(row, replace(row, limits=row.limits.raised_to(longer))):
            self.spans = self._spans()
            self.history.count("limits raised")


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
