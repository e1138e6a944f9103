"""What rotation and the keyring need of a store.

Every write is a compare-and-swap on the revision of the issuer that it was computed from: a write that finds another revision
changes nothing and returns False, and the writer reads again. So any replica may rotate, and exactly one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Protocol

from sealwright.keys.lifecycle import Key, Limits


class Outcome(StrEnum):
    """How an intent ended, where it did not end as usual."""

    FOUND = "found"
    """The answer to the creation was lost, and the key was found by its tags."""
    DELETED = "deleted"
    """The key turned up when another intent had taken its place. Its deletion was scheduled."""
    ABSENT = "absent"
    """No key turned up."""
    SEVERAL = "several"
    """Several keys have its tags. None was used, and none deleted."""
    FOREIGN = "foreign"
    """A key that the service cannot have created has its tags."""
    UNKNOWN = "unknown"
    """The KMS did not let the service look for the key, or delete it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """A key that is being created. It is recorded before the KMS is asked, so that a crash leaves no orphan.

    Attributes:
        intent_id: Random; the KMS key is tagged with it.
        issuer: Name of the issuer.
        series: Name of the series.
        algorithm: JWS algorithm of the key.
        provider: Name of the provider that creates it.
        create_time: When it was recorded.
        claimed_by: The replica that is creating the key.
        claim_expire_time: From then on another replica may take it over.
        asked_time: When the KMS was asked to create the key; None: it was not, or it refused, so that no key can exist.
        uri: Pinned URI of the created key; None until it is known.
        public_key: SubjectPublicKeyInfo, DER; None until it is known, and for a secret key.
        made_time: When the key had been described and had signed a trial text, so that it may be published.
        kid: The key that it became; None until that is published. The row stays: it proves that a KMS key is ours.
        abandon_time: When another intent took its place. A key that turns up after that is not used.
        close_time: Since then, nothing remains to be done for it.
        outcome: How it ended, one of the constants of `Outcome`; None: as usual.
        protection: Where the KMS keeps the private key, as it described the key; None until it is known.
    """

    intent_id: str
    issuer: str
    series: str
    algorithm: str
    provider: str
    create_time: datetime
    claimed_by: str
    claim_expire_time: datetime
    asked_time: datetime | None = None
    uri: str | None = None
    public_key: bytes | None = None
    made_time: datetime | None = None
    kid: str | None = None
    abandon_time: datetime | None = None
    close_time: datetime | None = None
    outcome: str | None = None
    protection: str | None = None

    @property
    def awaited(self) -> bool:
        """Whether its key is on its way to the JWK Set."""
        return not (self.kid or self.abandon_time or self.close_time)


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerState:
    """Everything that the store has about an issuer, from one read.

    Attributes:
        name: Name of the issuer.
        revision: Changes with every write.
        limits: In force for all replicas.
        first_publish_time: When it got its first JWK Set; None: it has none yet.
        url: Its `iss`; None: it is not known yet.
        keys: All its keys, including withdrawn and revoked ones.
        intents: Those for which something remains to be done.
    """

    name: str
    revision: int
    limits: Limits
    first_publish_time: datetime | None = None
    keys: Sequence[Key] = ()
    intents: Sequence[Intent] = ()
    url: str | None = None


ALIVE: Final = timedelta(seconds=30)
"""A replica whose row is younger than this may be running. Each writes its row every few seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A worker process, as others see it in the store.

    Attributes:
        replica_id: Unique for each start.
        revision: The newest revision of the store that it has read.
        start_time: When it started.
        seen_time: When it last wrote this row.
        host: Name of its host.
        version: Version of its code.
    """

    replica_id: str
    revision: int
    start_time: datetime
    seen_time: datetime
    host: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockRecord:
    """How the store's clock and the stopwatch of a machine went together.

    Attributes:
        boot_id: Names one start of the machine.
        zero: The store's time at which the stopwatch was zero.
        seen_time: The newest time that a replica there has gone by.
        sure: Whether `zero` replaces what the store has.
        moves: `StoreState.moves` as the writer has read it: a record of a time from before a move is not kept.
    """

    boot_id: str
    zero: datetime
    seen_time: datetime
    sure: bool = True
    moves: timedelta = field(default=timedelta(), compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreState:
    """One consistent read of the store.

    Attributes:
        deployment_id: Random, created with the store. KMS keys are tagged with it.
        revision: Changes with every write to any issuer.
        time: The store's clock at the read.
        issuers: By name.
        blocked: Providers whose keys were all revoked, and since when: no key is created there until an operator permits it.
        clocks: What is known of the clocks of the machines that use the store.
        moves: By how much all times have moved so far, because jumps of the store's clock were settled.
    """

    deployment_id: str
    revision: int
    time: datetime
    issuers: Mapping[str, IssuerState] = field(default_factory=dict)
    blocked: Mapping[str, datetime] = field(default_factory=dict)
    clocks: tuple[ClockRecord, ...] = ()
    moves: timedelta = timedelta()


class KeyStore(Protocol):
    """The store of keys. All methods raise `StoreUnavailableError` if it cannot be reached.

    Methods that return a bool write by compare-and-swap on the revision of the given state: False means that another writer was
    quicker, and nothing was written.
    """

    async def read(self, known: StoreState | None = None) -> StoreState:
        """Read everything in one transaction.

        Args:
            known: An earlier read. Issuers whose revision has not changed since are taken from it.
        """
        ...

    async def probe(self) -> tuple[int, datetime]:
        """Return the store's revision and its clock. If the revision is the one that was read, this confirms that read."""
        ...

    async def listen(self, on_change: Callable[[], None]) -> None:
        """Call `on_change` soon after each change by any process, until cancelled. Return at once if the store cannot tell.

        It may be called without a change, and changes may be missed.
        """
        ...

    async def ensure_issuer(self, name: str, limits: Limits) -> None:
        """Create the issuer's row, or raise its limits to these. Limits are never lowered."""
        ...

    async def add_intents(self, state: IssuerState, intents: Sequence[Intent]) -> bool:
        """Record intents."""
        ...

    async def unpublished(self, issuer: str, series: str, since: datetime) -> int:
        """Return how many intents of a series were recorded since a time, and have not become a published key."""
        ...

    async def begun(self, provider: str, since: datetime) -> int:
        """Return how many intents of a provider were recorded since a time."""
        ...

    async def change_intent(self, state: IssuerState, intent: Intent) -> bool:
        """Write an intent's claim or key."""
        ...

    async def publish(self, state: IssuerState, keys: Sequence[Key], intents: Sequence[Intent]) -> bool:
        """Publish keys and complete their intents, in one transaction."""
        ...

    async def change_keys(self, state: IssuerState, keys: Sequence[Key]) -> bool:
        """Write the times of keys, in one transaction."""
        ...

    async def revoke_all(self, provider: str, decide: Callable[[StoreState], Sequence[Key]]) -> StoreState:
        """Block a provider for new keys and write the times of keys of any issuers, in one transaction.

        Intents of the provider whose keys are not published yet are abandoned.

        Args:
            provider: Name of the provider.
            decide: Returns the keys with their new times. It is called within the transaction, in another thread, so it must not
                use anything but its argument.

        Returns:
            What `decide` was given.
        """
        ...

    async def unblock(self, provider: str) -> bool:
        """Permit a provider to create keys again. Return whether it was blocked."""
        ...

    async def heartbeat(self, replica: Replica, clock: ClockRecord | None = None) -> None:
        """Write which revision a replica has read, and what it knows of its clock."""
        ...

    async def keep_urls(self, urls: Mapping[str, str]) -> None:
        """Write the URLs of issuers whose rows do not have one yet. They are never changed."""
        ...

    async def settle_clock(self, state: StoreState, jump: timedelta, clock: ClockRecord) -> bool:
        """Move all times by a jump of the store's clock, unless anything has changed since the store was read."""
        ...

    async def replicas(self, since: datetime) -> Sequence[Replica]:
        """Return the replicas that were seen since a time."""
        ...

    async def enter(self, replica_id: str) -> None:
        """Let other replicas find out when this one has ended, if the store can tell."""
        ...

    async def bury(self, now: datetime) -> Sequence[str]:
        """Delete the rows of replicas that have ended without a farewell, and give back their claims. Return which."""
        ...

    async def farewell(self, replica_id: str, now: datetime | None = None, clock: ClockRecord | None = None) -> None:
        """Delete the row of a replica that has stopped signing, give back its claims, and keep what it knows of its clock.

        Without `now`, the claims end by the store's clock.
        """
        ...

    async def add_token_counts(self, counts: Mapping[tuple[str, int], int]) -> None:
        """Add to the number of tokens by kid and minute (since the epoch) of their `exp`."""
        ...

    async def live_tokens(self, kids: Sequence[str], minute: int) -> int:
        """Return how many counted tokens of these kids expire in that minute or later."""
        ...

    async def prune(self, *, replicas_seen_before: datetime, tokens_expired_before: int) -> None:
        """Delete the rows of replicas last seen before a time, and the token counts of minutes (since the epoch) before one."""
        ...

    async def aclose(self) -> None:
        """Close the store."""
        ...


class KeyEvents(Protocol):
    """Receives what happens to keys: the audit."""

    async def published(self, key: Key) -> None:
        """Record that this replica has published a key."""
        ...

    async def changed(self, old: Key, new: Key) -> None:
        """Record that this replica has written times of a key."""
        ...


class StoreUnavailableError(Exception):
    """The store cannot be reached, or its content cannot be read."""
