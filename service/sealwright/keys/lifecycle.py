"""Keys in time, as pure functions: what a key may do depends on its times and `now`, and on nothing else.

A series is a queue of keys. Its first ready key signs and the next one stands by. Rotating means retiring the head. No state is
stored: this module derives every state that people see. It reads no clock, does not wait and does no I/O, so that a property
test can search the whole timeline (`tests/unit/keys/test_timeline.py`). The steps that write these times are in `keys/steps.py`.

The arithmetic of `lead` and `tail` implements promises 2 and 3: a key signs only when every verifier that honours
`Cache-Control` (RFC 9111) must have it, and it leaves the JWK Set only when its last token has expired.
`docs/decisions/0002-keys-in-time.md` shows by simulation that each of their terms is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum

QUEUE_LENGTH = 2  # Queued keys that a series keeps: the one that signs and the one that stands by.


class KeyState(StrEnum):
    """The state of a key that people see. It is derived and never stored."""

    STANDBY = "STANDBY"
    ACTIVE = "ACTIVE"
    RETIRED = "RETIRED"
    WITHDRAWN = "WITHDRAWN"
    REVOKED = "REVOKED"
    DESTROYED = "DESTROYED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One pinned KMS key (version) from the commit that publishes it. All times are UTC.

    Attributes:
        kid: RFC 7638 SHA-256 thumbprint of the public key.
        issuer: Name of the issuer that the key belongs to.
        series: Name of the series in which it queues.
        ordinal: Place in the queue; the ready key with the lowest ordinal signs.
        algorithm: JWS algorithm; the key is used with no other.
        provider: Name of the configured provider that holds the private key.
        uri: Pinned key URI (`awskms:///arn:…`).
        public_key: SubjectPublicKeyInfo, DER (RFC 5280 §4.1); None: a secret key.
        publish_time: Fact: the key has been in the JWK Set since then at the latest.
        ready_time: Deadline: the key may sign from then. None until it is known when the publishing commit was visible.
        retire_time: Fact: the key has not signed since then.
        withdraw_time: Deadline: the key is out of the JWK Set from then. None until it is known when the retiring commit was
            visible.
        revoke_time: Fact: since then the key neither signs nor is published, permanently.
        destroy_time: Fact: the deletion of the key was scheduled in the KMS.
        disable_time: Fact: the KMS refuses to sign with the key since then at the latest. Not written for revoked keys.
        destroy_due_time: Deadline: from then the deletion may be scheduled. Set when the key is retired; None: never.
        protection: Where the KMS keeps the private key; None: it was not noted.
    """

    kid: str
    issuer: str
    series: str
    ordinal: int
    algorithm: str
    provider: str
    uri: str
    public_key: bytes | None
    publish_time: datetime
    ready_time: datetime | None = None
    retire_time: datetime | None = None
    withdraw_time: datetime | None = None
    revoke_time: datetime | None = None
    destroy_time: datetime | None = None
    disable_time: datetime | None = None
    destroy_due_time: datetime | None = None
    protection: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The limits that an issuer's replicas obey: one row in the store, whose values are only raised.

    Attributes:
        max_staleness: S; a replica signs only within S of a confirmed read of the store.
        max_age: A; `max-age` of the JWK Set (RFC 9111 §5.2.2.1).
        stale_if_error: E; `stale-if-error` of the JWK Set (RFC 5861 §4).
        max_lifetime: L; a token's `exp` is at most `iat` + L.
        verifier_skew: K; the largest difference between any two clocks: those of two replicas (so K is at least twice
            `max_clock_error`), or a replica's and a verifier's.
        max_serve_age: How long a replica that is cut off from the store keeps serving its JWK Set.
    """

    max_staleness: timedelta
    max_age: timedelta
    stale_if_error: timedelta
    max_lifetime: timedelta
    verifier_skew: timedelta
    max_serve_age: timedelta

    def raised_to(self, other: Limits) -> Limits:
        """Return the larger value of each limit. A limit that was in force once may still apply to a verifier's cache."""
        return Limits(**{f.name: max(getattr(self, f.name), getattr(other, f.name)) for f in fields(self)})

    @property
    def cache_age(self) -> timedelta:
        """The longest time that a set may be in use after a replica last served it, by any clock: 2 (A + E) + K.

        Two A and two E: a shared cache that cannot reach us may return a set that is A + E old. A verifier that ignores `Age`
        keeps that set for A again, then finds the cache failing and keeps it for E more. K: two replicas time the key's
        publication and its first signature.
        """
        return 2 * (self.max_age + self.stale_if_error) + self.verifier_skew

    def settling(self, verifier_refresh: timedelta) -> timedelta:
        """Time from a key's publication until verifiers have it that keep a set for `verifier_refresh`, whatever it says.

        S: a replica may still serve the set without the key. A + E: a shared cache may hand out a set that old, and such a
        verifier reads it. K: two replicas time the key's publication and its first signature.
        """
        return self.max_staleness + self.max_age + self.stale_if_error + verifier_refresh + self.verifier_skew

    def lead(self, min_lead: timedelta) -> timedelta:
        """Time from the commit that publishes a key to its first signature."""
        return max(min_lead, self.max_staleness + self.cache_age)

    @property
    def tail(self) -> timedelta:
        """Time from the commit that retires a key until it leaves the JWK Set: S + L + 2 K.

        Two K, because two pairs of clocks matter: one replica writes the deadline and another obeys it; one replica stamps the
        token's `exp` and a verifier obeys that.
        """
        return self.max_staleness + self.max_lifetime + 2 * self.verifier_skew

    @property
    def scheduled_wait(self) -> timedelta:
        """Time from a standby's publication until a scheduled rotation may use it: even replicas that were cut off then have it."""
        return self.max_serve_age + self.cache_age


def queued(key: Key) -> bool:
    """Return whether the key signs now or may sign later."""
    return not (key.retire_time or key.revoke_time)


def ready(key: Key, now: datetime) -> bool:
    """Return whether the key may sign: every verifier must have it by now."""
    return queued(key) and key.ready_time is not None and key.ready_time <= now


def published(key: Key, now: datetime) -> bool:
    """Return whether the key is in the JWK Set."""
    return not key.revoke_time and (key.withdraw_time is None or now < key.withdraw_time)


def jwks(keys: Iterable[Key], now: datetime) -> list[Key]:
    """Return the keys of the JWK Set, in the order of their kids."""
    return sorted((k for k in keys if published(k, now)), key=lambda k: k.kid)


def signers(keys: Iterable[Key], now: datetime, order: Sequence[str]) -> list[Key]:
    """Return the keys that may sign, best first.

    This one order serves normal signing, fail-over to the next series and the choice after a revocation.

    Args:
        keys: The keys of one issuer.
        now: The time of the signature.
        order: Names of the issuer's series, in order of preference. Keys of other series are left out.
    """
    rank = {name: i for i, name in enumerate(order)}
    able = (k for k in keys if k.series in rank and ready(k, now))
    return sorted(able, key=lambda k: (rank[k.series], k.ordinal))


def queue(keys: Iterable[Key], series: str) -> list[Key]:
    """Return the queued keys of a series, head first."""
    return sorted((k for k in keys if k.series == series and queued(k)), key=lambda k: k.ordinal)


def active(keys: Iterable[Key], series: str, now: datetime) -> Key | None:
    """Return the key of the series that signs; None before its first key is ready."""
    return next((k for k in queue(keys, series) if ready(k, now)), None)


def state(key: Key, keys: Iterable[Key], now: datetime) -> KeyState:
    """Derive the state that people see.

    Args:
        key: The key.
        keys: All keys of its issuer, the key among them.
        now: The time that the state is derived for.
    """
    if key.destroy_time:
        return KeyState.DESTROYED
    if key.revoke_time:
        return KeyState.REVOKED
    if not published(key, now):
        return KeyState.WITHDRAWN
    if key.retire_time:
        return KeyState.RETIRED
    head = active(keys, key.series, now)
    return KeyState.ACTIVE if head is not None and head.kid == key.kid else KeyState.STANDBY


def active_since(keys: Iterable[Key], head: Key) -> datetime:
    """Return when the head of a series took over: when it was ready, or when its last predecessor stopped, if that was later.

    A predecessor stops once: revoking it after its retirement changes nothing for its successors.
    """
    predecessors = [k for k in keys if k.series == head.series and k.ordinal < head.ordinal]
    stops = [min(times) for k in predecessors if (times := [t for t in (k.retire_time, k.revoke_time) if t])]
    return max([head.ready_time or head.publish_time, *stops])


def opens(keys: Iterable[Key], series: str, now: datetime) -> bool:
    """Return whether a series is new to verifiers: none of its keys has been ready yet, and those of another series are."""
    been_ready = {k.series for k in keys if k.ready_time is not None and k.ready_time <= now}
    return series not in been_ready and bool(been_ready)
