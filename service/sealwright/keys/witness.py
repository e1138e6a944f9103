"""The witness: what is remembered of the store outside of it, so that a lost, older or foreign store is recognised.

A replica records the keys of the store in the witness before it signs with them or publishes them. So a store that lacks one of
these keys, or in which one is not retired or revoked any more, is not the store that verifiers have seen: it was restored from
a backup, replaced, or is empty. Such a store is refused until an operator accepts it (`sealwright store accept`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from sealwright.keys.lifecycle import Key
from sealwright.keys.ports import IssuerState, StoreState, StoreUnavailableError

REMEDY = "run `sealwright store check`; then restore a newer copy, or run `sealwright store accept`"


class Fact(IntEnum):
    """What has happened to a key. A larger value never becomes a smaller one."""

    QUEUED = 0
    RETIRED = 1
    REVOKED = 2


KeyFacts = Mapping[str, Mapping[str, Fact]]
"""Facts by issuer and kid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What is remembered of a store.

    Attributes:
        deployment_id: The deployment of the store.
        revision: Its revision when a key was last published, retired or revoked, or a provider blocked or unblocked.
        keys: What had happened to its keys by then.
        acceptance: Changes each time an operator accepts a store. Empty: that has never been necessary.
        blocked: The providers that were blocked by then, because all of their keys had been revoked.
    """

    deployment_id: str
    revision: int
    keys: KeyFacts
    acceptance: str = ""
    blocked: frozenset[str] = frozenset()


class WitnessUnreadableError(Exception):
    """The witness exists, but it cannot be read."""


class WitnessStore(Protocol):
    """Where the witness is kept."""

    def read(self) -> Witness | None:
        """Return the witness; None: there is none yet. This is quick, because the replica asks before each read of the store.

        Raises:
            WitnessUnreadableError: It cannot be read.
        """
        ...

    def record(self, witness: Witness) -> None:
        """Replace an older witness, durably. A newer one, or one of another acceptance, stays.

        Raises:
            OSError: It cannot be written.
            WitnessUnreadableError: The old one cannot be read.
        """
        ...


class StoreRefusedError(StoreUnavailableError):
    """The store is not the one that verifiers have seen. An operator must restore another copy, or accept it."""


def fact_of(key: Key) -> Fact:
    """Return what has happened to a key."""
    if key.revoke_time:
        return Fact.REVOKED
    return Fact.RETIRED if key.retire_time else Fact.QUEUED


class FactsCache:
    """What has happened to the keys of a store. Only issuers that have changed since the last look are looked at again."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[IssuerState, Mapping[str, Fact]]] = {}

    def facts(self, state: StoreState) -> KeyFacts:
        """Return the facts of all issuers that have keys."""
        for name, issuer in state.issuers.items():
            known = self._known.get(name)
            if known is None or known[0] is not issuer:
                self._known[name] = (issuer, {k.kid: fact_of(k) for k in issuer.keys})
        return {name: self._known[name][1] for name, issuer in state.issuers.items() if issuer.keys}


def witness_of(state: StoreState, acceptance: str, facts: KeyFacts | None = None) -> Witness:
    """Return what is to be remembered of a store.

    Args:
        state: The store.
        acceptance: The id of the last acceptance.
        facts: What has happened to its keys, if that is known.
    """
    keys = FactsCache().facts(state) if facts is None else facts
    return Witness(
        deployment_id=state.deployment_id,
        revision=state.revision,
        keys=keys,
        acceptance=acceptance,
        blocked=frozenset(state.blocked),
    )


@dataclass(frozen=True, slots=True)
class Difference:
    """A key of which the store does not know what the witness knows.

    Attributes:
        issuer: Name of its issuer.
        kid: Its kid.
        was: What the witness knows.
        now: What the store says; None: the store does not have the key.
    """

    issuer: str
    kid: str
    was: Fact
    now: Fact | None

    def __str__(self) -> str:
        """Describe it for people."""
        now = "missing" if self.now is None else self.now.name.lower()
        return f"issuer {self.issuer}: key {self.kid} was {self.was.name.lower()}, and is {now} in the store"


def differences(known: KeyFacts, here: KeyFacts) -> Iterator[Difference]:
    """Yield the keys for which a store has gone back behind what is known.

    Args:
        known: What is known.
        here: What the store says.
    """
    for issuer, keys in known.items():
        if here.get(issuer) == keys:
            continue
        for kid, was in keys.items():
            now = here.get(issuer, {}).get(kid)
            if now is None or now < was:
                yield Difference(issuer, kid, was, now)


def objection(witness: Witness, store: Witness) -> str | None:
    """Return why a store must not be used; None: it may be.

    Args:
        witness: What is remembered. It must have been read before the store was.
        store: What would be remembered of the store.
    """
    if store.deployment_id != witness.deployment_id:
        if not store.keys:
            return "the store is empty, but keys have been published from here"
        return "the store belongs to another deployment than the keys that have been published from here"
    if store.revision < witness.revision:
        return f"the store is an older copy: it is at revision {store.revision}, and has been at {witness.revision}"
    found = list(differences(witness.keys, store.keys))
    if found:
        return f"the store is another copy: {len(found)} keys in it are missing or not retired or revoked any more"
    return None
