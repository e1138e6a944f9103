"""Draws `rotation.svg` from `keys/lifecycle.py` and the default settings: `python docs/pictures/rotation.py`.

The keys of one series are moved on by the steps that the module says are due, and coloured by the states that it derives.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from sealwright.issuer_settings import IssuerSettings, SeriesSettings
from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key, KeyState, Limits
from sealwright.keys.settings import TimingSettings, limits
from sealwright.keys.steps import Create, SeriesPolicy, apply_step, next_steps, rotation_time

FILE = Path(__file__).with_suffix(".svg")
PERIOD, LAST_DAY = timedelta(days=30), 100
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)

WIDTH, LEFT, RIGHT, ROW, BAR = 960, 60, 930, 30, 18
COLOURS = {KeyState.STANDBY: "#9ecae1", KeyState.ACTIVE: "#41ab5d", KeyState.RETIRED: "#fdae6b"}
TERMS = ("#6a51a3", "#9e9ac8", "#cbc9e2", "#807dba")
REST = "#eeeeee"
Term = tuple[str, timedelta]
Span = tuple[datetime, datetime]


@dataclass(slots=True)
class Series:
    """One series as it goes on. `seen` has its keys after each instant at which something happened."""

    limits: Limits
    policy: SeriesPolicy
    keys: list[Key] = field(default_factory=list)
    seen: list[tuple[datetime, list[Key]]] = field(default_factory=list)

    def run(self, end: datetime) -> None:
        """Take all steps until a time."""
        now: datetime | None = BEGIN
        while now is not None and now < end:
            while steps := next_steps(self.keys, [self.policy], self.limits, {}, now):
                for step in steps:
                    if isinstance(step, Create):
                        self._create(step.count, now)
                    else:
                        self.keys = [apply_step(k, step, now) if k.kid == step.kid else k for k in self.keys]
            self.seen.append((now, list(self.keys)))
            now = rotation_time(self.keys, self.policy, self.limits)

    def _create(self, count: int, now: datetime) -> None:
        first = not self.keys  # before an issuer's first set there was nothing that a verifier could have kept
        for _ in range(count):
            number = len(self.keys)
            key = Key(
                kid="ABCDEFGH"[number],
                issuer="payments",
                series=self.policy.name,
                ordinal=number,
                algorithm="ES256",
                provider="aws",
                uri=f"awskms:///{number}",
                public_key=b"",
                publish_time=now,
            )
            self.keys.append(replace(key, ready_time=now) if first else key)

    def states(self, kid: str, end: datetime) -> list[tuple[KeyState, Span]]:
        """Return the states of a key, with their begins and ends."""
        found: list[tuple[KeyState, Span]] = []
        for (begin, keys), (until, _) in pairwise([*self.seen, (end, [])]):
            key = next((k for k in keys if k.kid == kid), None)
            if key is None:
                continue
            moments = {t for k in keys for t in (k.ready_time, k.withdraw_time) if t and begin < t < until}
            for one, other in pairwise(sorted({begin, *moments, until})):
                state = lifecycle.state(key, keys, one)
                since = found.pop()[1][0] if found and found[-1][0] is state else one
                found.append((state, (since, other)))
        return found


@dataclass(slots=True)
class Axis:
    """Maps times to places, with a mark every `step`."""

    begin: datetime
    end: datetime
    step: timedelta
    unit: timedelta
    name: str
    zero: datetime

    def x(self, time: datetime) -> float:
        """Return where a time is."""
        part = (min(max(time, self.begin), self.end) - self.begin) / (self.end - self.begin)
        return round(LEFT + part * (RIGHT - LEFT), 1)

    def draw(self, y: float) -> Iterator[str]:
        """Yield the axis."""
        yield f'<path d="M{LEFT} {y}H{RIGHT}" stroke="#666"/>'
        time = self.begin
        while time <= self.end:
            x, text = self.x(time), f"{(time - self.zero) / self.unit:.0f}"
            yield f'<path d="M{x} {y}v4" stroke="#666"/><text x="{x}" y="{y + 17}" class="mark">{text}</text>'
            time += self.step
        yield f'<text x="{RIGHT}" y="{y + 32}" class="end">{self.name}</text>'


def words(span: timedelta) -> str:
    """Write a duration."""
    minutes = round(span / MINUTE)
    hours, rest = divmod(minutes, 60)
    return " ".join(
        part for part in (f"{hours} h" if hours else "", f"{rest} min" if rest or not hours else "") if part
    )


def bar(axis: Axis, y: float, span: Span, colour: str, title: str) -> str:
    """Return a bar. One that would be too short to see is 2 wide."""
    x = axis.x(span[0])
    width = max(2.0, round(axis.x(span[1]) - x, 1))
    return f'<rect x="{x}" y="{y}" width="{width}" height="{BAR}" fill="{colour}"><title>{title}</title></rect>'


def rows(series: Series, kids: Iterable[str], axis: Axis, y: float) -> Iterator[str]:
    """Yield a row of states for each key."""
    for number, kid in enumerate(kids):
        top = y + number * ROW
        yield f'<text x="{LEFT - 12}" y="{top + 14}" class="end">{kid}</text>'
        for state, span in series.states(kid, axis.end):
            if state in COLOURS and span[1] > axis.begin and span[0] < axis.end:
                yield bar(axis, top, span, COLOURS[state], f"key {kid} {state}")


def stack(axis: Axis, y: float, whole: Span, name: str, terms: Sequence[Term]) -> Iterator[str]:
    """Yield the terms of a sum, one after the other, and the sum in words below them. The rest of the whole is `min_lead`."""
    begin, end = whole
    time = begin
    for (label, length), colour in zip(terms, TERMS, strict=False):
        yield bar(axis, y, (time, time + length), colour, f"{label}: {words(length)}")
        time += length
    least = ""
    if time < end:
        yield bar(axis, y, (time, end), REST, "min_lead")
        least = f"; min_lead is {words(end - begin)}"
    text = " + ".join(f"{label} {words(length)}" for label, length in terms)
    yield f'<text x="{axis.x(begin)}" y="{y + BAR + 14}">{name} = {text} = {words(total(terms))}{least}</text>'


def lead_terms(given: Limits) -> list[Term]:
    """Return the terms of the lead."""
    return [
        ("S", given.max_staleness),
        ("2 A", 2 * given.max_age),
        ("2 E", 2 * given.stale_if_error),
        ("K", given.verifier_skew),
    ]


def tail_terms(given: Limits) -> list[Term]:
    """Return the terms of the tail."""
    return [("S", given.max_staleness), ("L", given.max_lifetime), ("2 K", 2 * given.verifier_skew)]


def wait_terms(given: Limits) -> list[Term]:
    """Return the terms of the wait of a scheduled rotation."""
    return [("max_serve_age", given.max_serve_age), *lead_terms(given)[1:]]


def total(terms: Iterable[Term]) -> timedelta:
    """Return a sum."""
    return sum((span for _, span in terms), timedelta())


def defaults() -> tuple[Limits, SeriesPolicy]:
    """Return what the default settings give, with a rotation every 30 days."""
    one = SeriesSettings(name="es256", algorithm="ES256", provider="aws", rotation_period=PERIOD)
    issuer = IssuerSettings(name="payments", url="https://id.example.com/payments", series=[one])
    policy = SeriesPolicy(name=one.name, rotation_period=one.rotation_period, min_lead=one.min_lead)
    return limits(issuer, TimingSettings()), policy


def picture() -> str:
    """Return the picture as SVG."""
    given, policy = defaults()
    lead, tail = given.lead(policy.min_lead), given.tail
    sums = (total(lead_terms(given)), total(tail_terms(given)), total(wait_terms(given)))
    if sums != (given.lead(timedelta()), tail, given.scheduled_wait):
        raise ValueError("lead, tail or scheduled wait has other terms than the picture shows")
    series = Series(given, policy)
    series.run(BEGIN + LAST_DAY * DAY)
    first = next(k for k in series.keys if k.kid == "A").retire_time or BEGIN
    days = Axis(BEGIN, BEGIN + LAST_DAY * DAY, 10 * DAY, DAY, "days", BEGIN)
    minutes = Axis(first - 30 * MINUTE, first + 90 * MINUTE, 10 * MINUTE, MINUTE, "minutes after A is retired", first)
    hours = Axis(first, first + 25 * HOUR, 5 * HOUR, HOUR, "hours after a key is published", first)
    lines = [
        '<text x="20" y="28" class="head">A series that rotates every 30 days</text>',
        *(legend(330)),
        *rows(series, [k.kid for k in series.keys], days, 46),
        *days.draw(46 + len(series.keys) * ROW),
        '<text x="20" y="262" class="head">Around a rotation: B signs from the instant at which A is retired</text>',
        *rows(series, "ABC", minutes, 280),
        f'<path d="M{minutes.x(first)} 274V470" stroke="#666" stroke-dasharray="4 3"/>',
        *stack(minutes, 376, (first, first + tail), "tail of A", tail_terms(given)),
        *stack(minutes, 424, (first, first + lead), "lead of C", lead_terms(given)),
        *minutes.draw(470),
        '<text x="20" y="536" class="head">How long a standby must have been published before a rotation on schedule</text>',
        *stack(hours, 550, (first, first + given.scheduled_wait), "scheduled wait", wait_terms(given)),
        *hours.draw(592),
    ]
    style = "text{font:13px sans-serif;fill:#222}.head{font-weight:bold}.mark{text-anchor:middle}.end{text-anchor:end}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} 636" role="img" aria-label="Keys in time">'
    body = "\n".join(lines)
    return f'{head}\n<style>{style}</style>\n<rect width="{WIDTH}" height="636" fill="#fff"/>\n{body}\n</svg>\n'


def legend(x: float) -> Iterator[str]:
    """Yield what the colours mean."""
    texts = {
        KeyState.STANDBY: "STANDBY: published, not used",
        KeyState.ACTIVE: "ACTIVE: signs",
        KeyState.RETIRED: "RETIRED: published, signs no more",
    }
    for state, text in texts.items():
        yield f'<rect x="{x}" y="18" width="12" height="12" fill="{COLOURS[state]}"/><text x="{x + 17}" y="28">{text}</text>'
        x += 17 + 7.2 * len(text)


if __name__ == "__main__":
    FILE.write_text(picture(), encoding="utf-8")
