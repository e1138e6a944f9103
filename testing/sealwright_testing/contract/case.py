"""One case of the contract: it opens providers, checks what they do, and compares with what the harness declares."""

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
from sealwright.errors import ProviderError, ProviderUnsupportedError, SignatureRejectedError
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeyProvider, ProviderSettings

from .harness import PATIENCE, CannotError, Harness, Outcome
from .judging import accept, signing_input

T = TypeVar("T")

CASE_PROPERTY: Final = "contract.case"
DECLARED_PROPERTY: Final = "contract.declared"
"""User properties of a pytest report, from which the matrix learns of a case."""

AT_ONCE: Final = 50
"""Concurrent calls in tests that need many."""

_SETTLING_SECONDS: Final = 5.0
_WORDS: Final = ("arn:", "http://", "https://", "Traceback")
_FILES: Final = Path("/proc/self/fd")


class ContractBrokenError(AssertionError):
    """The provider breaks the contract. Accepted if the harness declares the outcome impossible."""


class ProviderFaultyError(AssertionError):
    """The provider does what no declaration excuses: it raises something other than a ProviderError, or discloses something."""


_EXCUSABLE: Final = (CannotError, ProviderUnsupportedError, SignatureRejectedError, ContractBrokenError)


def require(condition: object, what: str) -> None:
    """Check a condition.

    Raises:
        ContractBrokenError: It is false.
    """
    if not condition:
        raise ContractBrokenError(what)


def capability(provider: KeyProvider, kind: type[T]) -> T:
    """Return the provider, typed by a capability that it has.

    Raises:
        CannotError: It does not have the capability.
    """
    if not isinstance(provider, kind):
        raise CannotError(f"the provider is not a {kind.__name__}")
    return provider


class Case:
    """Helpers that the tests of the contract share.

    Attributes:
        harness: Gives access to the provider and its backend.
    """

    def __init__(self, harness: Harness, record: Callable[[str, object], None], log: pytest.LogCaptureFixture) -> None:
        self.harness = harness
        self._record = record
        self._log = log
        self._uris: set[str] = set()
        log.set_level(logging.INFO)

    @asynccontextmanager
    async def of(self, outcome: Outcome, algorithm: Algorithm | None = None) -> AsyncIterator[KeyProvider]:
        """Open a provider, and judge what the test does with it.

        The test also tries what was declared impossible. If it fails in an expected way, it is recorded as declared. If it works,
        the declaration is wrong and the test fails.
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
                raise ProviderFaultyError(f"declared impossible ({reason}), but it works: {outcome}")
        self._inspect_log()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[KeyProvider]:
        """Open another provider on the same backend, as after a restart or in another worker."""
        provider = await self.harness.open()
        try:
            yield provider
        finally:
            await provider.aclose()

    def some_algorithm(self) -> Algorithm:
        """Return an algorithm that the provider has, for tests that need only one."""
        ours = (a for a in ("ES256", *ALGORITHMS) if a not in self.harness.impossible)
        return ALGORITHMS[next(ours, "ES256")]

    async def key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        """Return the URI of a key that the tests share."""
        return self._noted(await self.harness.key(provider, algorithm))

    async def new_key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        """Return the URI of a new key, used only by this test."""
        return self._noted(await self.harness.make_key(provider, algorithm))

    async def signs(self, provider: KeyProvider, uri: str, algorithm: Algorithm, claim: str = "") -> bytes:
        """Sign, verify as the core does, and return the signature in JOSE form."""
        message = signing_input(algorithm, claim)
        key = await provider.describe(uri, timeout=PATIENCE)
        return accept(key, algorithm, message, await provider.sign(uri, algorithm, message, timeout=PATIENCE))

    async def warm(self, provider: KeyProvider) -> str:
        """Make the provider open all its connections, so that later calls cost the same each time. Return a key's URI."""
        algorithm = self.some_algorithm()
        uri = await self.key(provider, algorithm)
        await asyncio.gather(*(self.signs(provider, uri, algorithm, str(number)) for number in range(AT_ONCE)))
        return uri

    async def refused(self, call: Awaitable[Any], *kinds: type[ProviderError]) -> ProviderError:
        """Await a call that must be refused with one of these errors, and inspect the error.

        Raises:
            ContractBrokenError: The call is not refused, or with another error.
            ProviderFaultyError: It raises something other than a ProviderError, or the error discloses something.
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
            raise ProviderFaultyError(f"{type(error).__name__} is not a ProviderError") from error
        raise ContractBrokenError(f"not refused with {' or '.join(kind.__name__ for kind in kinds)}")

    def inspect(self, error: ProviderError) -> None:
        """Check that an error discloses nothing.

        Raises:
            ProviderFaultyError: It discloses something.
        """
        texts = [str(error), repr(error), error.message, *error.metadata, *error.metadata.values()]
        self._require_silence(" ".join([*texts, repr(error.violations)]), f"a {type(error).__name__}")

    def guarded(self, provider: KeyProvider) -> GuardedProvider:
        """Return the provider as the service uses it: with deadlines, one retry and a breaker."""
        settings = ProviderSettings(kind="contract", timeout=timedelta(seconds=PATIENCE))
        return GuardedProvider("contract", provider, settings, SystemClock())

    def held(self) -> Mapping[str, int]:
        """Count the threads, tasks, sockets, and what the harness counts."""
        # The executor of an event loop keeps its threads as long as the loop exists. They do not belong to the provider.
        threads = [t for t in threading.enumerate() if not t.name.startswith("asyncio_")]
        counts = Counter({"threads": len(threads), "tasks": len(asyncio.all_tasks()), "sockets": _sockets()})
        counts.update(self.harness.held())
        return counts

    async def settled(self, before: Mapping[str, int]) -> None:
        """Wait until the counts of `held` are no higher than before.

        Raises:
            ContractBrokenError: They stay higher.
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
        for name in os.listdir(_FILES):  # noqa: PTH208 - faster, and it runs many times a second
            with suppress(OSError):
                count += (_FILES / name).readlink().name.startswith("socket:")
    return count
