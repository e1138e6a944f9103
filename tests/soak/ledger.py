"""What happened, and what must not have happened."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_RELEASE_SLACK = 1.0
"""Seconds for the way of a token from the replica to its caller."""

REFUSED = "a token refused by a verifier"
REVOKED = "a token of a revoked key"
ORPHANS = "a key in a KMS that nobody knows"
MISSING = "a token without its audit record"
"""The kinds of violations that are printed even if there are none."""

_SHOWN = 12
"""Details of each kind of violation that are printed."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token that a caller has received.

    Attributes:
        text: The token.
        jti: Its id.
        kid: Its key.
        issuer: The name of its issuer.
        host: The name of the host that released it.
        asked: When its caller asked, in seconds since the epoch.
        released: When its caller had it.
        expires: Its `exp`.
    """

    text: str = field(repr=False)
    jti: str
    kid: str
    issuer: str
    host: str
    asked: float
    released: float
    expires: float


@dataclass
class Ledger:
    """The counts of a run and its violations.

    Attributes:
        tokens: All that were released.
        counts: How often things happened, by group and name.
        violations: What must not happen, by kind, with details.
        revoked: When the revocation of each kid was asked for.
        confirmed: When all replicas had confirmed that they know of the revocation of a kid.
        hurried: Kids that an emergency may have made ready before verifiers had them.
        troubles: From when to when each host could not read the store in time, or did not run.
        ill: The same for each KMS, and for the way of a host to it (`host/kms`).
    """

    tokens: list[Token] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    violations: dict[str, list[str]] = field(default_factory=dict)
    revoked: dict[str, float] = field(default_factory=dict)
    confirmed: dict[str, float] = field(default_factory=dict)
    hurried: set[str] = field(default_factory=set)
    troubles: dict[str, list[list[float]]] = field(default_factory=dict)
    ill: dict[str, list[list[float]]] = field(default_factory=dict)

    def count(self, group: str, name: str, number: int = 1) -> None:
        """Count something."""
        self.counts.setdefault(group, Counter())[name] += number

    def violate(self, kind: str, detail: str) -> None:
        """Note something that must not happen."""
        self.violations.setdefault(kind, []).append(detail)

    def release(self, token: Token) -> None:
        """Note a token. None may leave after all replicas have learnt that its key was revoked.

        A host that was stopped between the release and the answer is excused.
        """
        self.tokens.append(token)
        self.count("tokens released", f"by {token.host}")
        late = token.released - self.confirmed.get(token.kid, float("inf"))
        if late > _RELEASE_SLACK and not self.in_trouble(token.host, token.asked):
            self.violate(REVOKED, f"{token}, {late:.1f} s after its revocation was known everywhere")

    @contextmanager
    def trouble(self, *hosts: str) -> Iterator[None]:
        """Note that hosts are cut off or stopped while the block runs, and may go on with what they know."""
        with _noted(self.troubles, hosts):
            yield

    @contextmanager
    def illness(self, kms: str) -> Iterator[None]:
        """Note that a KMS, or the way of a host to it, is not well while the block runs."""
        with _noted(self.ill, (kms,)):
            yield

    def was_well(self, host: str, kms: str, since: float) -> bool:
        """Return whether a KMS was well for a host, all the time since then."""
        return not any(span[1] > since for name in (kms, f"{host}/{kms}") for span in self.ill.get(name, []))

    def old_set_served(self, published: float, staleness: float, serve_age: float) -> float:
        """Return until when a host may have served a set from before a publication; 0: none was in trouble then.

        Args:
            published: When a key was published.
            staleness: How long a host may have needed to read that.
            serve_age: How long a host that is cut off serves its set.
        """
        spans = (span for spans in self.troubles.values() for span in spans)
        old = [(begin, end) for begin, end in spans if begin < published + staleness and end > published]
        return max((min(end, max(begin, published) + serve_age) for begin, end in old), default=0.0)

    def in_trouble(self, host: str, since: float) -> bool:
        """Return whether a host was in trouble at any time since then."""
        return any(span[1] > since for span in self.troubles.get(host, []))

    def lines(self) -> Iterator[str]:
        """Yield the table of counts, then the violations."""
        width = max((len(n) for c in self.counts.values() for n in c), default=0)
        for group, counter in self.counts.items():
            yield f"{group}"
            yield from (f"  {name:{width}} {number:8}" for name, number in sorted(counter.items()))
        yield "what must not happen"
        yield from (
            f"  {kind:{width}} {len(self.violations.get(kind, [])):8}" for kind in (REFUSED, REVOKED, ORPHANS, MISSING)
        )
        for kind, details in self.violations.items():
            yield f"BROKEN: {kind}: {len(details)}"
            yield from (f"  {detail}" for detail in details[:_SHOWN])


@contextmanager
def _noted(book: dict[str, list[list[float]]], names: Iterable[str]) -> Iterator[None]:
    spans = {name: [time.time(), float("inf")] for name in names}
    for name, span in spans.items():
        book.setdefault(name, []).append(span)
    try:
        yield
    finally:
        for span in spans.values():
            span[1] = time.time()
