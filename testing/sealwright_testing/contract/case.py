"""One case of the contract: what it tries, what it finds, and whether that was declared."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from sealwright.clock import SystemClock
from sealwright.errors import ProviderError, ProviderUnsupportedError
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeyProvider, ProviderSettings

from .harness import PATIENCE, CannotError, Harness, Outcome
from .judging import accept, signing_input

T = TypeVar("T")

CASE_PROPERTY: Final = "contract.case"
DECLARED_PROPERTY: Final = "contract.declared"
"""User properties of a pytest report, by which the matrix knows of a case."""

AT_ONCE: Final = 50
"""Calls at once where many are wanted."""

_SETTLING_SECONDS: Final = 5.0
_WORDS: Final = ("arn:", "http://", "https://", "Traceback")
_FILES: Final = Path("/proc/self/fd")


class ContractBrokenError(AssertionError):
    """The provider does not do what the contract says. Excused where the harness declares the outcome impossible."""


class ProviderFaultyError(AssertionError):
    """The provider does what no declaration excuses: it raises what is no ProviderError, or discloses something."""


_EXCUSABLE: Final = (CannotError, ProviderUnsupportedError, ContractBrokenError)


def require(condition: object, what: str) -> None:
    """Go on only if the condition holds.

    Raises:
        ContractBrokenError: It does not.
    """
    if not condition:
        raise ContractBrokenError(what)


def capability(provider: KeyProvider, kind: type[T]) -> T:
    """Return the provider as one that has the capability.

    Raises:
        CannotError: It has not.
    """
    if not isinstance(provider, kind):
        raise CannotError(f"the provider is no {kind.__name__}")
    return provider


class Case:
    """What the tests of the contract have in common.

    Attributes:
        harness: The provider's surroundings.
    """

    def __init__(self, harness: Harness, record: Callable[[str, object], None], log: pytest.LogCaptureFixture) -> None:
        self.harness = harness
        self._record = record
        self._log = log
        self._uris: set[str] = set()
        log.set_level(logging.INFO)

    @asynccontextmanager
    async def of(self, outcome: Outcome, algorithm: Algorithm | None = None) -> AsyncIterator[KeyProvider]:
        """Open a provider, and judge what is tried with it.

        What was declared impossible is tried all the same. If it fails as what is impossible does, that is as declared; if
        it works, the declaration is wrong, and so the test fails.
        """
        reason = self.harness.reason(outcome, algorithm)
        self._record(CASE_PROPERTY, (self.harness.name, str(outcome), algorithm.name if algorithm else ""))
        try:
            async with self.opened() as provider:
                yield provider
        except _EXCUSABLE as error:
            if reason is None:
                raise
            if isinstance(error, ProviderError):
                self.inspect(error)
            self._record(DECLARED_PROPERTY, reason)
        else:
            if reason is not None:
                raise ProviderFaultyError(f"declared impossible ({reason}), and works: {outcome}")
        self._inspect_log()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[KeyProvider]:
        """Open one more provider on the same backend, as after a restart or in another worker."""
        provider = await self.harness.open()
        try:
            yield provider
        finally:
            await provider.aclose()

    def some_algorithm(self) -> Algorithm:
        """Return an algorithm that the provider has, for what is the same with all of them."""
        ours = (a for a in ("ES256", *ALGORITHMS) if a not in self.harness.impossible)
        return ALGORITHMS[next(ours, "ES256")]

    async def key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        """Return the URI of a key that tests share."""
        return self._noted(await self.harness.key(provider, algorithm))

    async def new_key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        """Return the URI of a key that is this test's own."""
        return self._noted(await self.harness.make_key(provider, algorithm))

    async def signs(self, provider: KeyProvider, uri: str, algorithm: Algorithm, claim: str = "") -> bytes:
        """Sign and let the core judge; return the signature in JOSE form."""
        message = signing_input(algorithm, claim)
        key = await provider.describe(uri, timeout=PATIENCE)
        return accept(key, algorithm, message, await provider.sign(uri, algorithm, message, timeout=PATIENCE))

    async def warm(self, provider: KeyProvider) -> str:
        """Have the provider open all that it opens, so that what follows costs the same each time; return a key's URI."""
        algorithm = self.some_algorithm()
        uri = await self.key(provider, algorithm)
        await asyncio.gather(*(self.signs(provider, uri, algorithm, str(number)) for number in range(AT_ONCE)))
        return uri

    async def refused(self, call: Awaitable[Any], *kinds: type[ProviderError]) -> ProviderError:
        """Await a call that must be refused, in one of these ways and without a word too much.

        Raises:
            ContractBrokenError: It is not refused, or in another way.
            ProviderFaultyError: It raises what a provider may not raise, or discloses something.
        """
        try:
            await call
        except ProviderError as error:
            self.inspect(error)
            if isinstance(error, kinds):
                return error
            wanted = " or ".join(kind.__name__ for kind in kinds)
            raise ContractBrokenError(f"refused with {type(error).__name__}, not with {wanted}") from error
        except Exception as error:
            raise ProviderFaultyError(f"{type(error).__name__} is no ProviderError") from error
        raise ContractBrokenError(f"not refused with {' or '.join(kind.__name__ for kind in kinds)}")

    def inspect(self, error: ProviderError) -> None:
        """See that an error discloses nothing.

        Raises:
            ProviderFaultyError: It does.
        """
        texts = [str(error), repr(error), error.message, *error.metadata, *error.metadata.values()]
        self._require_silence(" ".join([*texts, repr(error.violations)]), f"a {type(error).__name__}")

    def guarded(self, provider: KeyProvider) -> GuardedProvider:
        """Return the provider as the service has it: with deadlines, one retry and a breaker."""
        settings = ProviderSettings(kind="contract", timeout=timedelta(seconds=PATIENCE))
        return GuardedProvider("contract", provider, settings, SystemClock())

    def held(self) -> Mapping[str, int]:
        """Count what is held now: threads, tasks, sockets, and what the harness knows of."""
        # A loop's own executor keeps its threads for as long as the loop lives; none of them is the provider's.
        threads = [t for t in threading.enumerate() if not t.name.startswith("asyncio_")]
        counts = Counter({"threads": len(threads), "tasks": len(asyncio.all_tasks()), "sockets": _sockets()})
        counts.update(self.harness.held())
        return counts

    async def settled(self, before: Mapping[str, int]) -> None:
        """Wait until no more is held than before.

        Raises:
            ContractBrokenError: It goes on being held.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLING_SECONDS
        while more := {what: n for what, n in self.held().items() if n > before.get(what, 0)}:
            require(loop.time() < end, f"left behind: {more}, before: {dict(before)}")
            gc.collect()
            await asyncio.sleep(0.02)

    def _noted(self, uri: str) -> str:
        self._uris.add(uri)
        return uri

    def _inspect_log(self) -> None:
        for record in self._log.records:
            cause = repr(record.exc_info[1]) if record.exc_info else ""
            self._require_silence(record.getMessage() + cause, f"the log ({record.name})")

    def _require_silence(self, text: str, where: str) -> None:
        spoken = [word for word in (*_WORDS, *self.harness.words, *self._uris) if word and word in text]
        if spoken:
            raise ProviderFaultyError(f"{where} discloses {spoken}: {text}")


def _sockets() -> int:
    count = 0
    with suppress(FileNotFoundError):  # Not Linux: the harness may count connections itself.
        for name in os.listdir(_FILES):  # noqa: PTH208 - of numbers, many times a second
            with suppress(OSError):
                count += (_FILES / name).readlink().name.startswith("socket:")
    return count
