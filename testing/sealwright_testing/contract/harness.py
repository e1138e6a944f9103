"""What the contract needs of a provider's surroundings, and the words that it speaks of them in."""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.provider import KeyCreator, KeyProvider, KeySpec, Protection

DEPLOYMENT: Final = "sealwright:deployment"
INTENT: Final = "sealwright:intent"
"""The two tags that the service itself sets, and finds keys by."""

RETRY_AFTER: Final = 7.0
"""Seconds that the backend asks for under `Fault.THROTTLED_WITH_RETRY_AFTER`: whole, since HTTP has no fractions there."""

PATIENCE: Final = 20.0
"""Seconds for calls that are not what a test is about."""


class CannotError(Exception):
    """The harness, or the backend behind it, cannot bring that about. Fails the test unless it was declared impossible."""


class Outcome(StrEnum):
    """What the contract looks at: the rows of the matrix."""

    DESCRIBE = "describe"
    """Public key, pinned URI, protection; the same kid after a restart."""
    SIGN = "sign"
    """The core and joserfc accept the signature."""
    LONG_MESSAGE = "long message"
    """Around 4096 bytes and above: signed, or refused as too large where no digest can be sent."""
    WRONG_ALGORITHM = "wrong algorithm"
    """No signature by an algorithm that is not the key's."""
    CORRUPTED_SIGNATURE = "corrupted signature"
    TRUNCATED_SIGNATURE = "truncated signature"
    OTHER_KEY = "other key's signature"
    OTHER_VERSION = "another version answers"
    UNKNOWN_KEY = "unknown key"
    DISABLED = "disabled key"
    PENDING_DELETION = "key pending deletion"
    NOT_YET_ENABLED = "key not yet enabled"
    DENIED = "access denied"
    THROTTLED = "throttled"
    THROTTLED_WITH_RETRY_AFTER = "throttled, with retry-after"
    UNAVAILABLE = "unavailable"
    SLOW = "slow beyond the deadline"
    NO_TIME = "no time left"
    """A call that cannot end in time is not begun."""
    CHECK = "check"
    CANCEL = "cancellation"
    """Leaves no thread, task, session or connection behind."""
    CONCURRENT = "50 signs at once"
    CREATE = "create with tag"
    PROTECTION = "create with protection"
    """A key is kept where the request says, or is not created."""
    FIND = "find by tag"
    DISABLE = "disable"
    DELETE = "schedule deletion"
    CLOSE = "close twice"
    FOREIGN_URI = "foreign URI"
    """Refused before any call to the backend."""


BY_ALGORITHM: Final = (
    Outcome.DESCRIBE,
    Outcome.SIGN,
    Outcome.LONG_MESSAGE,
    Outcome.WRONG_ALGORITHM,
    Outcome.CORRUPTED_SIGNATURE,
    Outcome.TRUNCATED_SIGNATURE,
    Outcome.OTHER_KEY,
    Outcome.OTHER_VERSION,
)
"""Outcomes that are looked at for each algorithm; the others once a provider."""


class Fault(StrEnum):
    """What the harness makes the backend do, on demand."""

    CORRUPTED_SIGNATURE = "corrupted signature"
    """One bit of the signature is not as it was. Its form is right: lengths, and DER where it is DER."""
    TRUNCATED_SIGNATURE = "truncated signature"
    """The last byte is missing."""
    OTHER_KEY = "other key"
    """A signature by another key of the same kind, passed off as the key's own."""
    OTHER_VERSION = "other version"
    """Another key or key version answers, and says so."""
    DENIED = "denied"
    """The backend refuses the service's identity."""
    THROTTLED = "throttled"
    """Too many requests, without a word on when to come again."""
    THROTTLED_WITH_RETRY_AFTER = "throttled with retry-after"
    """Too many requests; come again in `RETRY_AFTER` seconds."""
    UNAVAILABLE = "unavailable"
    """The backend fails on its side."""
    SLOW = "slow"
    """No call ends before the fault is over. Then those that hang must end, one way or the other."""


class KeyState(StrEnum):
    """Into what the harness puts a key, by means of the backend's own."""

    DISABLED = "disabled"
    PENDING_DELETION = "pending deletion"
    NOT_YET_ENABLED = "not yet enabled"


Impossible = Mapping[str | tuple[Outcome, str], str]
"""Reasons, by outcome, by algorithm, or by outcome and algorithm."""


class Harness(ABC):
    """A provider's surroundings: its backend, real or emulated, and a hand on its switches.

    It may live for a class, a module or a session of tests, each of which runs on an event loop of its own and opens its own
    providers; the backend and its keys stay.

    Attributes:
        name: Of the provider, in the matrix.
        protection: What `describe` must say of keys that are made here.
        impossible: What cannot be done, each with the reason: an `Outcome`, the name of an algorithm, or both as a tuple.
        words: What no error and no log may hold: account, endpoint, token, PIN, words of the SDK.
        foreign: Key URIs outside what the provider is configured for.
    """

    name: str
    protection: Protection
    impossible: Impossible = MappingProxyType({})
    words: Sequence[str] = ()
    foreign: Sequence[str] = ()

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}

    @abstractmethod
    async def open(self) -> KeyProvider:
        """Open one more provider, as the service does at start."""

    @abstractmethod
    def unknown(self, algorithm: Algorithm) -> str:
        """Return a key URI that the provider is configured for, and that no key has."""

    @abstractmethod
    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:
        """Put a key into a state.

        Raises:
            CannotError: There is no such state.
        """

    @abstractmethod
    def arm(self, fault: Fault) -> AbstractContextManager[None]:
        """Have the fault for as long as the context lasts, on whatever the provider asks of the backend.

        Raises:
            CannotError: It cannot be brought about.
        """

    @abstractmethod
    def calls(self) -> int:
        """Return how many calls have reached the backend so far."""

    def held(self) -> Mapping[str, int]:
        """Return what the backend holds for the provider now, such as sessions. Threads, tasks and sockets are counted anyway."""
        return {}

    async def make_key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        """Make a key that signs with the algorithm, and return its pinned URI. To be overridden where providers create none.

        Raises:
            CannotError: It cannot be made.
        """
        if not isinstance(provider, KeyCreator):
            raise CannotError("the provider creates no keys, and its harness neither")
        tags = {DEPLOYMENT: "contract", INTENT: str(uuid.uuid4())}
        return (await provider.create(KeySpec(algorithm=algorithm, tags=tags), timeout=PATIENCE)).uri

    async def key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        """Return the pinned URI of a key for the algorithm, which tests share and leave as it is."""
        if algorithm.name not in self._keys:
            self._keys[algorithm.name] = await self.make_key(provider, algorithm)
        return self._keys[algorithm.name]

    def reason(self, outcome: Outcome, algorithm: Algorithm | None) -> str | None:
        """Return why an outcome is impossible; None: it is not."""
        if algorithm is None:
            return self.impossible.get(outcome)
        named = self.impossible.get((outcome, algorithm.name))
        return named or self.impossible.get(algorithm.name) or self.impossible.get(outcome)

    def misdeclared(self) -> list[object]:
        """Return the declarations that declare nothing: unknown names, no reason, an outcome that has no algorithms with one."""
        return [
            what
            for what, reason in self.impossible.items()
            if not reason.strip()
            or not (
                what[0] in BY_ALGORITHM and what[1] in ALGORITHMS
                if isinstance(what, tuple)
                else what in ALGORITHMS or what in set(Outcome)
            )
        ]
