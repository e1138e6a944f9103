"""A provider and a clock that tests control."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sealwright.clock import Clock, SystemClock
from sealwright.errors import ProviderError
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.jose.signatures import SignatureEncoding
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeyDescription, KeySpec, Protection, ProviderSettings, RawSignature

ES256 = ALGORITHMS["ES256"]
URI = "fake:///k"
SIGNATURE = RawSignature(value=b"s", encoding=SignatureEncoding.DER, key_uri=URI)
KEY = KeyDescription(uri=URI, public_key=None, algorithms=frozenset({"ES256"}), protection=Protection.HSM)

Step = Callable[[float], Awaitable[None]] | Exception | None


class FakeClock:
    """A clock that only tests move."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def now(self) -> datetime:
        return datetime.fromtimestamp(self.seconds, UTC)

    def elapsed(self) -> float:
        return self.seconds


class FakeProvider:
    """Follows a script, call by call: raises an error, awaits a function of the timeout, or (None) answers."""

    def __init__(self, *script: Step, forever: Step = None) -> None:
        self.script = list(script)
        self.forever = forever
        self.calls: Counter[str] = Counter()
        self.timeouts: list[float] = []
        self.under_way = 0
        self.most = 0
        self.closed = 0

    async def _do(self, name: str, timeout: float) -> None:
        self.calls[name] += 1
        self.timeouts.append(timeout)
        step = self.script.pop(0) if self.script else self.forever
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            if isinstance(step, ProviderError):
                # Raise a new one for each call, since its receiver may change it.
                raise type(step)(step.message, metadata=step.metadata, retry_after=step.retry_after)
            if isinstance(step, Exception):
                raise step
            if step is not None:
                await step(timeout)
        finally:
            self.under_way -= 1

    async def sign(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:  # noqa: ARG002
        await self._do("sign", timeout)
        return SIGNATURE

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:  # noqa: ARG002
        await self._do("describe", timeout)
        return KEY

    async def check(self, *, timeout: float) -> None:
        await self._do("check", timeout)

    async def aclose(self) -> None:
        self.closed += 1


class FullProvider(FakeProvider):
    """A provider with all capabilities."""

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:  # noqa: ARG002
        await self._do("create", timeout)
        return KEY

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:  # noqa: ARG002
        await self._do("find", timeout)
        return [URI]

    async def disable(self, uri: str, *, timeout: float) -> None:  # noqa: ARG002
        await self._do("disable", timeout)

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:  # noqa: ARG002
        await self._do("schedule_deletion", timeout)


class Gate:
    """Holds calls until it is opened."""

    def __init__(self) -> None:
        self.open = asyncio.Event()

    async def __call__(self, _timeout: float) -> None:
        await self.open.wait()


async def hang(_timeout: float) -> None:
    await asyncio.Event().wait()


def guard(inner: FakeProvider, clock: Clock | None = None, **settings: Any) -> GuardedProvider:
    return GuardedProvider("hsm-1", inner, ProviderSettings(kind="fake", **settings), clock or SystemClock())


async def sign(guarded: GuardedProvider, seconds: float = 5) -> RawSignature:
    return await guarded.sign(URI, ES256, b"a.b", timeout=seconds)


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(10):
        await asyncio.sleep(0)


def milliseconds(count: int) -> timedelta:
    return timedelta(milliseconds=count)
