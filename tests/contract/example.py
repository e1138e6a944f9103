"""A complete, small provider and its harness: P-256 keys in the memory of a backend. See docs/providers.md."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sealwright.provider import (
    ALGORITHMS,
    Algorithm,
    KeyDescription,
    KeyProvider,
    Protection,
    ProviderAccessDeniedError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    RawSignature,
    SignatureEncoding,
)
from sealwright_testing.contract import RETRY_AFTER, CannotError, Fault, Harness, KeyState, Outcome

SCHEME = "example:"
MANAGEMENT = (Outcome.CREATE, Outcome.PROTECTION, Outcome.FIND, Outcome.DISABLE, Outcome.DELETE)
IMPOSSIBLE: dict[str | tuple[Outcome, str], str] = {
    **{name: "the example has only keys on P-256" for name in ALGORITHMS if name != "ES256"},
    **dict.fromkeys(MANAGEMENT, "keys are managed by their owner"),
}


class BackendError(Exception):
    """An error of the backend. Its text must not be disclosed."""


@dataclass
class Backend:
    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    states: dict[str, KeyState] = field(default_factory=dict)
    fault: Fault | None = None
    calls: int = 0

    async def ask(self, name: str = "") -> ec.EllipticCurvePrivateKey | None:
        self.calls += 1
        while self.fault is Fault.SLOW:  # noqa: ASYNC110 - a test may change it without a word
            await asyncio.sleep(0.005)
        if self.fault in {Fault.DENIED, Fault.UNAVAILABLE, Fault.THROTTLED, Fault.THROTTLED_WITH_RETRY_AFTER}:
            raise BackendError(f"{self.fault} for tenant-4711")
        if name and name in self.states:
            raise BackendError(self.states[name])
        return self.keys.get(name)

    async def sign(self, name: str, digest: bytes) -> tuple[str, bytes]:
        key = await self.ask(name)
        if key is None:
            raise BackendError("missing")
        used = "another" if self.fault is Fault.OTHER_VERSION else name
        if self.fault is Fault.OTHER_KEY:
            key = ec.generate_private_key(ec.SECP256R1())
        signature = key.sign(digest, ec.ECDSA(Prehashed(hashes.SHA256())))
        if self.fault is Fault.TRUNCATED_SIGNATURE:
            signature = signature[:-1]
        if self.fault is Fault.CORRUPTED_SIGNATURE:
            signature = signature[:-1] + bytes([signature[-1] ^ 1])
        return used, signature


class ExampleProvider:
    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.closed = False

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        name = self.name_of(uri)
        async with self.errors(timeout):
            key = await self.backend.ask(name)
        if key is None:
            raise ProviderKeyMissingError("the key does not exist in the example")
        der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return KeyDescription(
            uri=SCHEME + name, public_key=der, algorithms=frozenset({"ES256"}), protection=Protection.SOFTWARE
        )

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        name = self.name_of(uri)
        if algorithm.name != "ES256":
            raise ProviderUnsupportedError("the example signs only with ES256")
        async with self.errors(timeout):
            used, value = await self.backend.sign(name, algorithm.digest(message))
        return RawSignature(value=value, encoding=SignatureEncoding.DER, key_uri=SCHEME + used)

    async def check(self, *, timeout: float) -> None:
        async with self.errors(timeout):
            await self.backend.ask()

    async def aclose(self) -> None:
        self.closed = True

    def name_of(self, uri: str) -> str:
        name = uri.removeprefix(SCHEME)
        if not uri.startswith(SCHEME) or not name.startswith("key-"):
            raise ProviderUnsupportedError("the key URI must start with example:key-")
        return name

    @contextlib.asynccontextmanager
    async def errors(self, timeout: float) -> AsyncIterator[None]:
        if self.closed:
            raise ProviderUnavailableError("the provider is closed")
        if timeout <= 0:
            raise ProviderTimeoutError("the deadline passed before the example could be called")
        try:
            async with asyncio.timeout(timeout):
                yield
        except TimeoutError:
            raise ProviderTimeoutError("the example did not answer before the deadline") from None
        except BackendError as e:
            # Map it to our errors and texts, since its own text names the tenant.
            text = str(e).partition(" for ")[0]
            if text in set(KeyState):
                raise ProviderKeyDisabledError("the key in the example may not sign") from None
            if text == Fault.DENIED:
                raise ProviderAccessDeniedError("the example denies access to the service's own identity") from None
            if text.startswith("throttled"):
                seconds = RETRY_AFTER if text == Fault.THROTTLED_WITH_RETRY_AFTER else None
                raise ProviderThrottledError("the example limits the rate of requests", retry_after=seconds) from None
            if text == "missing":
                raise ProviderKeyMissingError("the key does not exist in the example") from None
            raise ProviderUnavailableError("the example reports a failure") from None


class ExampleHarness(Harness):
    name = "example"
    protection = Protection.SOFTWARE
    impossible = IMPOSSIBLE
    words = ("tenant-4711", "BackendError")
    foreign = ("other:key-1", "example:secret-1")

    def __init__(self) -> None:
        super().__init__()
        self.backend = Backend()
        self.numbers = itertools.count()

    async def open(self) -> KeyProvider:
        return ExampleProvider(self.backend)

    async def make_key(self, provider: KeyProvider, algorithm: Algorithm) -> str:  # noqa: ARG002 - it has no part in it
        if algorithm.name != "ES256":
            raise CannotError("the example has only keys on P-256")
        name = f"key-{next(self.numbers)}"
        self.backend.keys[name] = ec.generate_private_key(ec.SECP256R1())
        return SCHEME + name

    def unknown(self, algorithm: Algorithm) -> str:  # noqa: ARG002 - it is the same for all
        return f"{SCHEME}key-unknown"

    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:  # noqa: ARG002 - it has no part in it
        self.backend.states[uri.removeprefix(SCHEME)] = state

    @contextlib.contextmanager
    def arm(self, fault: Fault) -> Iterator[None]:
        self.backend.fault = fault
        try:
            yield
        finally:
            self.backend.fault = None

    def calls(self) -> int:
        return self.backend.calls
