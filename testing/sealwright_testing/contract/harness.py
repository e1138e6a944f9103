"""The interface between the contract and a provider's backend, and the names of outcomes, faults and states."""

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
"""The two tags by which the service finds its keys."""

RETRY_AFTER: Final = 7.0
"""Seconds that the backend asks for under `Fault.THROTTLED_WITH_RETRY_AFTER`. A whole number, since HTTP allows no fraction."""

PATIENCE: Final = 20.0
"""Timeout in seconds for calls whose duration does not matter to the test."""


class CannotError(Exception):
    """The harness or its backend cannot do this. Fails the test unless the outcome was declared impossible."""


class Outcome(StrEnum):
    """What the contract checks: the rows of the matrix."""

    DESCRIBE = "describe"
    """Public key, pinned URI, protection; the same kid after a restart."""
    SIGN = "sign"
    """The core and another library accept the signature."""
    LONG_MESSAGE = "long message"
    """Messages of about 4096 bytes and more are signed, or refused as too large if no digest can be sent."""
    WRONG_ALGORITHM = "wrong algorithm"
    """A key does not sign with an algorithm that is not its own."""
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
    """A call without time left does not reach the backend."""
    CHECK = "check"
    CANCEL = "cancellation"
    """A cancelled call leaves no thread, task, session or connection behind."""
    CONCURRENT = "50 signs at once"
    CREATE = "create with tag"
    PROTECTION = "create with protection"
    """A key is kept where the request says, or is not created."""
    FIND = "find by tag"
    DISABLE = "disable"
    DELETE = "schedule deletion"
    CLOSE = "close twice"
    FOREIGN_URI = "foreign URI"
    """A URI outside the configuration is refused before any call to the backend."""


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
"""Outcomes that are checked for each algorithm. The others are checked once per provider."""


class Fault(StrEnum):
    """Faults that the harness injects into the backend."""

    CORRUPTED_SIGNATURE = "corrupted signature"
    """One bit of the signature is flipped. The form stays right: the length, and DER if it is DER."""
    TRUNCATED_SIGNATURE = "truncated signature"
    """The last byte is missing."""
    OTHER_KEY = "other key"
    """A signature by another key of the same kind. The answer names the requested key."""
    OTHER_VERSION = "other version"
    """Another key or key version signs, and the answer names it."""
    DENIED = "denied"
    """The backend denies access to the service's identity."""
    THROTTLED = "throttled"
    """Too many requests. The answer does not say when to retry."""
    THROTTLED_WITH_RETRY_AFTER = "throttled with retry-after"
    """Too many requests. The answer says to retry in `RETRY_AFTER` seconds."""
    UNAVAILABLE = "unavailable"
    """The backend reports a failure on its own side."""
    SLOW = "slow"
    """No call ends before the fault is removed. Then all calls that hang must end, with success or not."""


class KeyState(StrEnum):
    """States into which the harness puts a key, with the backend's own means."""

    DISABLED = "disabled"
    PENDING_DELETION = "pending deletion"
    NOT_YET_ENABLED = "not yet enabled"


Impossible = Mapping[str | tuple[Outcome, str], str]
"""Reasons, by outcome, by algorithm, or by outcome and algorithm."""


class Harness(ABC):
    """Gives the contract access to a provider and its backend, real or emulated.

    A harness can exist for a class, a module or a session of tests. Each test runs on its own event loop and opens its own
    providers. The backend and its keys stay.

    Attributes:
        name: The provider's name in the matrix.
        protection: The protection of keys that are created here.
        impossible: What the provider cannot do, with reasons. Keys are an `Outcome`, the name of an algorithm, or both as a tuple.
        words: Texts that no error and no log may contain: account, endpoint, token, PIN, texts of the SDK.
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
        """Open another provider, as the service does at start."""

    @abstractmethod
    def unknown(self, algorithm: Algorithm) -> str:
        """Return a key URI inside the provider's configuration, for which no key exists."""

    @abstractmethod
    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:
        """Put a key into a state.

        Raises:
            CannotError: The backend does not have this state.
        """

    @abstractmethod
    def arm(self, fault: Fault) -> AbstractContextManager[None]:
        """Return a context in which all calls to the backend have the fault.

        Raises:
            CannotError: The fault cannot be injected.
        """

    @abstractmethod
    def calls(self) -> int:
        """Return the number of calls that have reached the backend so far."""

    def held(self) -> Mapping[str, int]:
        """Return counts of what the backend holds for the provider, such as sessions; not of threads, tasks and sockets."""
        return {}

    async def make_key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        """Create a key that signs with the algorithm, and return its pinned URI. Override it if the provider creates no keys.

        Raises:
            CannotError: The key cannot be created.
        """
        if not isinstance(provider, KeyCreator):
            raise CannotError("the provider is not a KeyCreator, and the harness does not override make_key")
        tags = {DEPLOYMENT: "contract", INTENT: str(uuid.uuid4())}
        return (await provider.create(KeySpec(algorithm=algorithm, tags=tags), timeout=PATIENCE)).uri

    async def key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        """Return the pinned URI of a key for the algorithm, which tests share and do not change."""
        if algorithm.name not in self._keys:
            self._keys[algorithm.name] = await self.make_key(provider, algorithm)
        return self._keys[algorithm.name]

    def reason(self, outcome: Outcome, algorithm: Algorithm | None) -> str | None:
        """Return why an outcome is impossible; None: it is possible."""
        if algorithm is None:
            return self.impossible.get(outcome)
        named = self.impossible.get((outcome, algorithm.name))
        return named or self.impossible.get(algorithm.name) or self.impossible.get(outcome)

    def misdeclared(self) -> list[object]:
        """Return the invalid declarations: unknown names, no reason, or an algorithm for an outcome that has none."""
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
