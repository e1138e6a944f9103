"""What an operator's acceptance of a store changes in it, so that the promises hold for what verifiers have seen before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sealwright.keys.lifecycle import Key, queued
from sealwright.keys.ports import StoreState
from sealwright.keys.witness import Fact, FactsCache, KeyFacts, differences, fact_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What has to be written to a store when it is accepted.

    Attributes:
        changed: Keys with new times.
        published: Issuers that have had a JWK Set of which the store does not know.
        blocked: Providers that were blocked, of which the store does not know.
        notes: What that means, for people.
    """

    changed: Sequence[Key]
    published: Sequence[str]
    blocked: Sequence[str]
    notes: Sequence[str]


def accept(state: StoreState, known: KeyFacts, unusable: Mapping[str, str], blocked: Iterable[str] = ()) -> Acceptance:
    """Decide what has to be written.

    States never go back: a key that was retired or revoked is so again, and a provider that was blocked is blocked. A key that was
    not published from here waits for its lead.

    Args:
        state: The store.
        known: What the witness knows of the keys that have been published.
        blocked: The providers that the witness knows to be blocked.
        unusable: Why the KMS would not sign with a key, by kid. Such a key is revoked.
    """
    changed: list[Key] = []
    notes: list[str] = []
    for issuer in state.issuers.values():
        for key in issuer.keys:
            new, note = _accepted(key, known.get(issuer.name, {}), unusable.get(key.kid), state.time)
            if new != key:
                changed.append(new)
                notes.append(f"issuer {issuer.name}: key {key.kid} {note}")
    again = sorted(set(blocked) - state.blocked.keys())
    notes += (
        f"provider {name} is blocked again, because all of its keys had been revoked: none is created there until "
        f"`sealwright keys unblock {name}`"
        for name in again
    )
    notes += _lost(state, known)
    unpublished = [
        name
        for name, keys in known.items()
        if keys and (name not in state.issuers or state.issuers[name].first_publish_time is None)
    ]
    return Acceptance(changed=changed, published=unpublished, blocked=again, notes=notes)


def _accepted(key: Key, known: Mapping[str, Fact], unusable: str | None, now: datetime) -> tuple[Key, str]:
    was = known.get(key.kid)
    if key.revoke_time:
        return key, ""
    if was is Fact.REVOKED:
        return replace(key, revoke_time=now), "had been revoked, and is revoked again"
    if unusable is not None:
        return replace(key, revoke_time=now), f"is revoked, because {unusable}"
    if was is Fact.RETIRED and fact_of(key) < Fact.RETIRED:
        return replace(key, retire_time=now), "had been retired, and is retired again"
    if known and was is None and queued(key) and key.ready_time is not None:
        return replace(
            key, publish_time=now, ready_time=None
        ), "has not been published from here, and waits for its lead"
    return key, ""


def _lost(state: StoreState, known: KeyFacts) -> Iterator[str]:
    for found in differences(known, FactsCache().facts(state)):
        if found.now is None and found.was is not Fact.REVOKED:
            yield (
                f"issuer {found.issuer}: key {found.kid} is lost. Its tokens stop verifying. "
                "It stays in the KMS until you disable it there"
            )
