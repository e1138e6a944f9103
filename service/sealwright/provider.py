"""All that a provider imports from Sealwright: protocols, data types, settings, algorithms and errors.

A provider gives access to the keys of one KMS or HSM. It knows nothing of policy, JWT or HTTP. Every provider has the methods of
`KeyProvider`. It shows what else it can do by having the methods of a capability, a small protocol of its own. A provider raises
only `ProviderError` subclasses. It never retries, since the guard around it does that and knows the deadline. It never logs, or
puts into an error, a key URI, an account, the text of an SDK or what it is asked to sign.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

from pydantic import Field

from sealwright.errors import (
    ConfigurationError,
    MessageTooLargeError,
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyLostError,
    ProviderKeyMissingError,
    ProviderKeyPendingError,
    ProviderNotInstalledError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    SignatureRejectedError,
)
from sealwright.jose.algorithms import ALGORITHMS, KEY_KINDS, Algorithm, PublicKey
from sealwright.jose.jwk import KeyFormatError, load_public_key
from sealwright.jose.key_kinds import KeyKind
from sealwright.jose.signatures import SignatureEncoding
from sealwright.settings import Duration, FilePath, PositiveDuration, Settings
from sealwright.threads import give_way

__all__ = [
    "ALGORITHMS",
    "KEY_KINDS",
    "Algorithm",
    "ConfigurationError",
    "Duration",
    "FilePath",
    "IdentityTeller",
    "KeyCreator",
    "KeyDeleter",
    "KeyDescription",
    "KeyDisabler",
    "KeyFinder",
    "KeyFormatError",
    "KeyKind",
    "KeyProvider",
    "KeySpec",
    "MessageTooLargeError",
    "PositiveDuration",
    "Protection",
    "ProviderAccessDeniedError",
    "ProviderError",
    "ProviderFactory",
    "ProviderKeyDisabledError",
    "ProviderKeyLostError",
    "ProviderKeyMissingError",
    "ProviderKeyPendingError",
    "ProviderNotInstalledError",
    "ProviderSettings",
    "ProviderThrottledError",
    "ProviderTimeoutError",
    "ProviderUnavailableError",
    "ProviderUnsupportedError",
    "PublicKey",
    "RawSignature",
    "SignatureEncoding",
    "SignatureRejectedError",
    "Timekeeper",
    "give_way",
    "load_public_key",
]


class ProviderSettings(Settings):
    """What the guard around a provider needs. Each kind adds its own fields in a subclass.

    Attributes:
        kind: Which kind of provider it is.
        timeout: Longest time of one call to the backend. A call also ends at its caller's deadline.
        manage_timeout: Longest time of creating a key, finding it again, or scheduling its deletion.
        max_in_flight: Concurrent calls, per worker.
        max_queue: Calls that may wait for one of those places, per worker. Further calls are refused at once.
        max_creations_per_minute: Keys that the replicas of a deployment together may begin to create in a minute. More wait.
        max_calls_per_second: Calls of any kind that the replicas of a deployment together make in a second, in equal parts. More
            wait. None: as many as the other limits allow.
    """

    kind: str
    timeout: PositiveDuration = timedelta(seconds=3)
    manage_timeout: PositiveDuration = timedelta(seconds=30)
    max_in_flight: int = Field(default=64, ge=1, le=10_000)
    max_queue: int = Field(default=256, ge=0, le=100_000)
    max_creations_per_minute: int = Field(default=300, ge=2, le=100_000)
    max_calls_per_second: int | None = Field(default=None, ge=1, le=1_000_000)

    def owns(self, uri: str) -> bool:  # noqa: ARG002 - for subclasses
        """Return whether a pinned key URI lies inside what these settings allow. By default the provider finds out at each call."""
        return True


class Protection(StrEnum):
    """Where the private key is kept."""

    SOFTWARE = "software"
    HSM = "hsm"
    EXTERNAL = "external"


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDescription:
    """A key as its KMS describes it.

    Attributes:
        uri: Pinned key URI: one immutable key or key version.
        public_key: SubjectPublicKeyInfo, DER; None for a secret (HMAC) key.
        algorithms: Names of the JWS algorithms that the KMS lets the key sign with.
        protection: Where the private key is kept.
        imported: Whether the private key may exist elsewhere: its material was imported, or it may be exported. Such a key is never
            adopted.
    """

    uri: str = field(repr=False)
    public_key: bytes | None = field(repr=False)
    algorithms: frozenset[str]
    protection: Protection
    imported: bool = False


class RawSignature(NamedTuple):
    """A signature as the backend returned it.

    Attributes:
        value: The backend's own bytes.
        encoding: Their encoding.
        key_uri: The pinned URI of the key that the backend says it used.
        request_id: The backend's ID of the call, to find it in the KMS's own log; None where the backend gives none.
    """

    value: bytes
    encoding: SignatureEncoding
    key_uri: str
    request_id: str | None = None

    def __repr__(self) -> str:
        """Return a text without the signature and the key URI."""
        return f"RawSignature(encoding={self.encoding!r}, request_id={self.request_id!r})"


async def _nobody(_uri: str) -> None:
    """Take no note of a new key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """The key to create.

    Attributes:
        algorithm: The JWS algorithm that it will sign with.
        rsa_bits: Size of the modulus, for RSA.
        protection: Where the private key must be kept; None: the provider's default.
        tags: Tags by which the key can be found again: the intent and the deployment, and names for people.
        created: Call this with the pinned URI as soon as the backend has answered that the key exists, before anything else is
            asked about it. Afterwards the service asks for that key, and never creates another one for the intent. It does not
            raise.
    """

    algorithm: Algorithm
    rsa_bits: int = 2048
    protection: Protection | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    created: Callable[[str], Awaitable[None]] = field(default=_nobody, repr=False, compare=False)


class KeyProvider(Protocol):
    """Access to the keys of one KMS or HSM. Every `timeout` is in seconds, from the start of the call."""

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        """Read a key's public half and state.

        Args:
            uri: Key URI. An alias or a URI without a version is resolved to the key that it means now.
            timeout: Seconds that the call may take.

        Raises:
            ProviderKeyDisabledError: The key cannot sign now: it is disabled, pending deletion or not ready yet.
            ProviderUnsupportedError: The URI is outside what the provider is configured for. Raised before any network call.
            ProviderError: The backend refused or failed.
        """
        ...

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        """Sign a JWS signing input. Where `algorithm.prehashed`, send only the digest to the backend.

        Args:
            uri: Pinned key URI.
            algorithm: The JWS algorithm to sign with.
            message: The whole signing input, since EdDSA needs it.
            timeout: Seconds that the call may take.

        Raises:
            ProviderError: The backend refused or failed.
        """
        ...

    async def check(self, *, timeout: float) -> None:
        """Check that the backend answers, cheaply and without signing.

        Raises:
            ProviderError: It does not.
        """
        ...

    async def aclose(self) -> None:
        """Release all that the provider holds. May be called twice."""
        ...


@runtime_checkable
class KeyCreator(Protocol):
    """A provider that can create keys."""

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """Create a key, with its tags in the same call, and return it as soon as it can be described.

        Raises:
            ProviderUnsupportedError: The backend has no such keys, or cannot keep them where `spec.protection` wants. Nothing
                was created.
            ProviderUnavailableError: It is not clear whether the key exists. If it does, it can be found by its tags.
            ProviderTimeoutError: Likewise.
            ProviderError: The backend refused. Nothing was created, unless `spec.created` was called.
        """
        ...


@runtime_checkable
class KeyFinder(Protocol):
    """A provider that can find keys by tag."""

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """Return the pinned URIs of all keys that have all these tags and are not pending deletion.

        It must not leave out a key because something else is wrong with it: the service must know of a second key with the tags of
        an intent, and of one with imported material.
        """
        ...


@runtime_checkable
class KeyDisabler(Protocol):
    """A provider that can stop a key from signing."""

    async def disable(self, uri: str, *, timeout: float) -> None:
        """Make the KMS refuse to sign with the key, until an operator enables it again."""
        ...


@runtime_checkable
class KeyDeleter(Protocol):
    """A provider that can schedule a key's deletion."""

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        """Schedule the deletion of the key, after the KMS's own waiting period. Succeeds if it is already scheduled."""
        ...


@runtime_checkable
class IdentityTeller(Protocol):
    """A provider that can tell whose credentials it uses, for `sealwright doctor`."""

    async def identity(self, *, timeout: float) -> str:
        """Return the account, the principal or the token that the credentials belong to. It is shown to operators only.

        Raises:
            ProviderError: The backend does not tell.
        """
        ...


@runtime_checkable
class Timekeeper(Protocol):
    """A provider whose backend tells the time, for `sealwright doctor`."""

    def time_error(self) -> float | None:
        """Return by how many seconds this machine's clock was ahead of the backend's in the last answer; None: there was none."""
        ...


S = TypeVar("S", bound=ProviderSettings)


class ProviderFactory(Protocol[S]):
    """What an entry point in the group `sealwright.providers` names."""

    @property
    def kind(self) -> str:
        """The `kind` in the configuration."""
        ...

    @property
    def settings(self) -> type[S]:
        """The model of its table in the configuration. It must be importable without the SDK."""
        ...

    async def open(self, settings: S) -> KeyProvider:
        """Connect. Imports the SDK. Runs in the worker, after any fork.

        Raises:
            ProviderNotInstalledError: The SDK is missing; the message names the extra to install.
            ConfigurationError: The settings cannot be used.
        """
        ...
