"""What a provider is: access to keys in one KMS or HSM, and nothing else; no policy, no JWT, no HTTP.

Required of a provider is `KeyProvider`; what else it can do it shows by having the methods of a capability, a small
protocol of its own. A provider raises `ProviderError` subclasses and nothing else, never retries (the guard around it does, and
knows the deadline), and never logs or puts into an error a key URI, an account, the text of an SDK or what it is asked to sign.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, Protocol, runtime_checkable

from pydantic import BaseModel

from sealwright.jose.algorithms import Algorithm
from sealwright.jose.signatures import SignatureEncoding


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
        public_key: SubjectPublicKeyInfo, DER; empty for a secret (HMAC) key.
        algorithms: Names of the JWS algorithms that the KMS lets it sign with.
        protection: Where the private key is kept.
    """

    uri: str = field(repr=False)
    public_key: bytes = field(repr=False)
    algorithms: frozenset[str]
    protection: Protection


@dataclass(frozen=True, slots=True, kw_only=True)
class RawSignature:
    """A signature as the backend answered it.

    Attributes:
        value: The backend's native bytes.
        encoding: Their form.
        key_uri: The pinned URI of the key that the backend says it used.
        request_id: The backend's name for the call, to find it in the KMS's own log; empty where it gives none.
    """

    value: bytes = field(repr=False)
    encoding: SignatureEncoding
    key_uri: str = field(repr=False)
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpec:
    """What kind of key to create.

    Attributes:
        algorithm: The JWS algorithm that it will sign with.
        rsa_bits: Size of the modulus, for RSA.
        protection: Where the private key must be kept; None: as the provider does by default.
        tags: Marks by which the key can be found again: the intent and the deployment, and names for people.
    """

    algorithm: Algorithm
    rsa_bits: int = 2048
    protection: Protection | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


class KeyProvider(Protocol):
    """Access to the keys of one KMS or HSM. All deadlines are seconds from the call on."""

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        """Read a key's public half and state.

        Args:
            uri: Key URI; an alias or a versionless name is resolved to what it means now.
            timeout: Seconds that it may take.

        Raises:
            ProviderKeyDisabledError: The key cannot sign now: it is disabled, pending deletion or not yet made.
            ProviderError: Also, before any network call, for a URI outside what the provider is configured for.
        """
        ...

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        """Sign a JWS signing input. Of RSA and ECDSA messages only the digest is sent to the backend.

        Args:
            uri: Pinned key URI.
            algorithm: The JWS algorithm to sign with.
            message: The whole signing input, since EdDSA cannot be pre-hashed.
            timeout: Seconds that it may take.

        Raises:
            ProviderError: As the backend says.
        """
        ...

    async def check(self, *, timeout: float) -> None:
        """See whether the backend answers, cheaply and without signing.

        Raises:
            ProviderError: It does not.
        """
        ...

    async def aclose(self) -> None:
        """Give back what the provider holds. May be called twice."""
        ...


@runtime_checkable
class KeyCreator(Protocol):
    """A provider that can create keys."""

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """Create a key, tagged in the same call, and return it as soon as it can be described.

        Raises:
            ProviderError: As the backend says. The key may exist all the same; it can be found by its tags.
        """
        ...


@runtime_checkable
class KeyFinder(Protocol):
    """A provider that can find keys by tag."""

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """Return the pinned URIs of the keys that carry all these tags and are not pending deletion."""
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
        """Schedule the deletion of the key, after the KMS's own waiting period. Done already is no error."""
        ...


class ProviderFactory(Protocol):
    """What an entry point in the group `sealwright.providers` names.

    Attributes:
        kind: The `kind` in the configuration.
        scheme: Scheme of its key URIs.
        settings: Model of its table in the configuration. Must be importable without the SDK.
    """

    kind: ClassVar[str]
    scheme: ClassVar[str]
    settings: ClassVar[type[BaseModel]]

    async def open(self, settings: BaseModel) -> KeyProvider:
        """Connect. Imports the SDK; runs in the worker, after any fork.

        Raises:
            ProviderNotInstalledError: The SDK is missing; the message names the extra.
        """
        ...
