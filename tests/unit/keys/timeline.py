"""A discrete-event simulation of replicas that rotate, publish and sign, run on the real `sealwright.keys.lifecycle`.

It produces a `History`: what the store held when, and what each replica had read when. What the replicas could have
signed and served, and whether a verifier could have met a token whose key it lacked, is judged in `verifiers.py`.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random

from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.steps import (
    Create,
    KeyStep,
    Retire,
    SeriesPolicy,
    SetReady,
    Step,
    apply_step,
    emergency,
    next_steps,
    rotation_time,
)

from .history import SOUND, Actor, Delay, Flaws, History, Life, Read, Rotation, Row, new_key, seconds, span


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
    opening: Sequence[SeriesPolicy] = ()
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
        life = self._life(config, policies)
        self.history.lives.append(life)
        self._read_after(0, life)
        life.writer = self._writer(life)
        self._schedule(0, life, life.writer)

    def _life(self, config: Limits, policies: Sequence[SeriesPolicy]) -> Life:
        error = self.rng.choice((-self.max_clock_error, 0, self.max_clock_error))
        return Life(error, config, policies)

    def _looked(self, life: Life, start: int, answered: int) -> None:
        """A read has ended that began at `start`, and whose rows are those of `answered`."""

    def _refreshed(self, life: Life, started: int) -> bool:  # noqa: ARG002 - for subclasses
        """A writer has read the store. Return whether it may write."""
        return True

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
            answered = self.now
            yield self._pause()
            life.reads.append(Read(start, self.now, answer))
            self._looked(life, start, answered)
            answer = None
            silence = self.rng.choice((1, *self.spans))
            life.connected = self.rng.randrange(3) > 0
            life.deaf_until = self.now + self.rng.choice((0, 0 if life.connected else silence))
            yield silence + life.connected * self.spans[-1]

    def _confirm(self, life: Life) -> None:
        """A replica that is connected polls all the time, so its last read is as young as can be."""
        if life.connected and life.died is None and life.reads[-1].row is self.latest:
            life.reads[-1] = replace(life.reads[-1], start=self.now)
            self._looked(life, self.now, self.now)

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
            row, started = self.latest, self.now
            yield self._pause()
            if not self._refreshed(life, started):
                yield 1 + self._pause()
                continue
            work = self._due(row, life)
            if not work:
                yield self._idle(row, life)
                continue
            task = self.rng.choice(work)
            yield self._pause()
            after = self._carry_out(task, row, life, early if self.flaws.clock_before_read else life.clock(self.now))
            yield self._pause()
            if self._commit(row, after):
                self._note(task, row, life)
            yield self._pause()

    def _due(self, row: Row, life: Life) -> list[Step | Publish]:
        law = self.flaws.law(row.limits)
        steps = next_steps(row.keys, life.policies, law, row.intents, life.clock(self.now))
        intents = {name: n for name, n in row.intents.items() if n}
        return [*steps, Publish(intents)] if intents else list(steps)

    def _idle(self, row: Row, life: Life) -> Delay:
        law = self.flaws.law(row.limits)
        due = [t for p in life.policies if (t := rotation_time(row.keys, p, law))]
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

    def _apply(self, key: Key, step: KeyStep, row: Row, now: datetime) -> Key:
        after = apply_step(key, step, now)
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
        for life in self.history.lives:
            self._confirm(life)
        self.history.rows.append(replace(after, time=self.now))
        self._aim(before)
        return True

    def _note(self, task: Step | Publish, row: Row, life: Life) -> None:
        """Write down what a commit means for the promises, in true time."""
        self.history.count(type(task).__name__)
        match task:
            case Publish():
                fresh = [k for k in self.latest.keys if k not in row.keys]
                self.history.visible.update({k.kid: self.now for k in fresh})
                if not row.keys and not self.migrating:
                    self.history.first.update(k.kid for k in fresh)
                    self.history.planned.update({k.kid: self.now for k in fresh})
            case SetReady(kid, _) if not self.migrating:
                series = next(k.series for k in row.keys if k.kid == kid)
                if lifecycle.opens(row.keys, series, life.clock(self.now)):
                    self.history.opened.add(kid)
            case Retire(kid):
                series = next(k.series for k in row.keys if k.kid == kid)
                heir = lifecycle.queue(row.keys, series)[1]
                self.history.planned.setdefault(heir.kid, self.now)
                self.history.rotations.append(
                    Rotation(self.now, kid, heir.kid, series, row.limits, len(self.history.rows) - 1)
                )

    # -- people -----------------------------------------------------------------------------------

    def _operator(self) -> Actor:
        acts = [self._rotate, self._rotate, self._revoke, self._raise if self.raising else self._wait, self._wait]
        acts += [self._open, self._open] if self.opening else []
        while True:
            yield self._pause() + self.rng.choice((1, *self.spans))
            yield from self.rng.choice(acts)()

    def _living(self) -> Life | None:
        living = [life for life in self.history.lives if life.died is None]
        return self.rng.choice(living) if living else None

    def _wait(self) -> Actor:
        yield self.spans[-1]

    def _rotate(self) -> Actor:
        """Rotate by hand, as soon as the standby is ready."""
        life, row, series = self._living(), self.latest, self.rng.choice(self.policies).name
        line = lifecycle.queue(row.keys, series)
        if life is None or len(line) < lifecycle.QUEUE_LENGTH or line[1].ready_time is None:
            return
        yield max(0, life.true(line[1].ready_time) - self.now) + self._pause()
        if not self._refreshed(life, self.now):
            return
        now = life.clock(self.now)
        head = lifecycle.active(row.keys, series, now)
        others = [k for k in line if head is not None and k.kid != head.kid]
        if head is None or not any(lifecycle.ready(k, now) for k in others):
            return
        after = self._carry_out(Retire(head.kid), row, life, now)
        yield self._pause()
        if self._commit(row, after):
            self.history.count("rotation by hand")

    def _revoke(self) -> Actor:
        row, life = self.latest, self._living()
        old = [k for k in row.keys if not k.revoke_time]
        if life is None or not old or self.rng.randrange(2) or not self._refreshed(life, self.now):
            return
        now = life.clock(self.now)
        lost = self.rng.choice(old)
        keys = tuple(replace(k, revoke_time=now) if k.kid == lost.kid else k for k in row.keys)
        step = emergency(keys, now, life.order)
        if step is not None:
            keys = tuple(apply_step(k, step, now) if k.kid == step.kid else k for k in keys)
        yield self._pause()
        if self._commit(row, replace(row, keys=keys)):
            self.history.revoked[lost.kid] = self.now
            self.history.count(f"revocation of {lifecycle.state(lost, row.keys, now).lower()}")
            if step is not None:
                self.history.hurried.add(step.kid)
                self.history.count("emergency")

    def _open(self) -> Actor:
        """Restart a replica with a series more in its file."""
        life, *others = self._living(), *self.opening
        if life is None or not self.latest.keys:
            return
        known = {p.name for p in life.policies}
        more = [p for p in others if p.name not in known][:1]
        self._confirm(life)
        life.died = self.now
        self._start(life.config, [*life.policies, *more])
        self.history.count("series opened")
        yield self._pause()

    def _raise(self) -> Actor:
        """Restart a replica with longer limits in its file; the row follows later."""
        life = self._living()
        if life is None:
            return
        name = self.rng.choice(
            ("max_staleness", "max_age", "stale_if_error", "max_lifetime", "max_lifetime", "max_serve_age")
        )
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
