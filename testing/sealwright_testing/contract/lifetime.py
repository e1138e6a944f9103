"""The contract on threads, sessions and connections, and on URIs that must not reach the backend."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from sealwright.errors import ProviderUnavailableError, ProviderUnsupportedError
from sealwright.jose.algorithms import Algorithm
from sealwright.provider import KeyDeleter, KeyDisabler, KeyProvider

from .case import AT_ONCE, Case, require
from .harness import PATIENCE, Fault, Outcome
from .judging import accept, signing_input

_CANCELLED: Final = 20
_PROMPT: Final = 1.0
_NO_KEYS: Final = ("", ":", "nothing", "https://localhost/key", "file:///etc/hostname", "x" * 5000)
"""Texts that are not key URIs of any provider."""
_TELLING: Final = 10
"""Shortest text, in characters, that does not occur in another by chance."""


class LifetimeContract:
    """Checks that a provider releases its threads, sessions and connections."""

    async def test_concurrent(self, case: Case) -> None:
        """Fifty concurrent signatures are all right, and their threads and connections are released."""
        algorithm = case.some_algorithm()
        before = case.held()
        async with case.of(Outcome.CONCURRENT) as provider:
            key = await provider.describe(await case.key(provider, algorithm), timeout=PATIENCE)
            messages = [signing_input(algorithm, str(number)) for number in range(AT_ONCE)]
            raw = await asyncio.gather(
                *(provider.sign(key.uri, algorithm, message, timeout=PATIENCE) for message in messages)
            )
            signatures = {accept(key, algorithm, m, r) for m, r in zip(messages, raw, strict=True)}
            require(len(signatures) == AT_ONCE, "two messages have the same signature")
            await provider.aclose()
            await case.settled(before)

    async def test_cancel(self, case: Case) -> None:
        """Cancelled calls end at once and leave nothing behind. The provider continues to work."""
        algorithm = case.some_algorithm()
        empty = case.held()
        async with case.of(Outcome.CANCEL) as provider:
            uri = await case.warm(provider)
            full = case.held()
            loop = asyncio.get_running_loop()
            with case.harness.arm(Fault.SLOW):
                calls = [
                    asyncio.ensure_future(provider.sign(uri, algorithm, signing_input(algorithm), timeout=PATIENCE))
                    for _ in range(_CANCELLED)
                ]
                await asyncio.wait(calls, timeout=0.1)
                require(not any(call.done() for call in calls), "a call ended despite the fault that makes it slow")
                start = loop.time()
                for call in calls:
                    call.cancel()
                await asyncio.wait(calls)
                require(loop.time() - start < _PROMPT, f"cancellation took longer than {_PROMPT} s")
                require(all(call.cancelled() for call in calls), "a cancelled call did not end with CancelledError")
            await case.settled(full)
            await case.signs(provider, uri, algorithm)
            await provider.aclose()
            await case.settled(empty)

    async def test_close(self, case: Case) -> None:
        """A provider can be closed twice, and without being used. Then it is unavailable."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.CLOSE) as provider:
            uri = await case.key(provider, algorithm)
            await case.signs(provider, uri, algorithm)
            before = case.harness.calls()
            for _ in range(2):
                await provider.aclose()
            message = signing_input(algorithm)
            await case.refused(provider.sign(uri, algorithm, message, timeout=PATIENCE), ProviderUnavailableError)
            await case.refused(provider.describe(uri, timeout=PATIENCE), ProviderUnavailableError)
            await case.refused(provider.check(timeout=PATIENCE), ProviderUnavailableError)
            require(case.harness.calls() == before, "a call to a closed provider reaches the backend")
            empty = case.held()
            async with case.opened():
                pass
            await case.settled(empty)

    async def test_foreign_uri(self, case: Case) -> None:
        """A URI outside what the provider is configured for does not reach the backend."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.FOREIGN_URI) as provider:
            require(case.harness.foreign, "the harness names no foreign URIs")
            before = case.harness.calls()
            for uri in (*_NO_KEYS, *case.harness.foreign):
                for call in _calls(provider, uri, algorithm):
                    error = await case.refused(call(), ProviderUnsupportedError)
                    require(len(uri) < _TELLING or uri not in str(error), "the error contains the URI")
            require(case.harness.calls() == before, "a URI outside the configuration reaches the backend")


def _calls(provider: KeyProvider, uri: str, algorithm: Algorithm) -> list[Callable[[], Awaitable[object]]]:
    """Return all calls that take a key URI."""
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: provider.describe(uri, timeout=PATIENCE),
        lambda: provider.sign(uri, algorithm, signing_input(algorithm), timeout=PATIENCE),
    ]
    if isinstance(provider, KeyDisabler):
        disabler = provider
        calls.append(lambda: disabler.disable(uri, timeout=PATIENCE))
    if isinstance(provider, KeyDeleter):
        deleter = provider
        calls.append(lambda: deleter.schedule_deletion(uri, timeout=PATIENCE))
    return calls
