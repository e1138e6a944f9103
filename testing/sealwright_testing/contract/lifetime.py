"""The contract on what a provider holds, and on what it must not even ask for."""

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
"""What is a key URI of no provider."""
_TELLING: Final = 10
"""Characters from which on a text is no longer found in another by chance."""


class LifetimeContract:
    """Threads, sessions and connections come and go with who needs them."""

    async def test_concurrent(self, case: Case) -> None:
        """Fifty signatures at once are fifty right signatures, and what made them is given back."""
        algorithm = case.some_algorithm()
        before = case.held()
        async with case.of(Outcome.CONCURRENT) as provider:
            key = await provider.describe(await case.key(provider, algorithm), timeout=PATIENCE)
            messages = [signing_input(algorithm, str(number)) for number in range(AT_ONCE)]
            raw = await asyncio.gather(
                *(provider.sign(key.uri, algorithm, message, timeout=PATIENCE) for message in messages)
            )
            signatures = {accept(key, algorithm, m, r) for m, r in zip(messages, raw, strict=True)}
            require(len(signatures) == AT_ONCE, "two messages have one signature")
            await provider.aclose()
            await case.settled(before)

    async def test_cancel(self, case: Case) -> None:
        """Callers that leave are let go at once, and leave nothing behind; the provider goes on."""
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
                require(not any(call.done() for call in calls), "a call ends that should be slow")
                start = loop.time()
                for call in calls:
                    call.cancel()
                await asyncio.wait(calls)
                require(loop.time() - start < _PROMPT, "cancellation has to wait")
                require(all(call.cancelled() for call in calls), "a call that was cancelled ends in another way")
            await case.settled(full)
            await case.signs(provider, uri, algorithm)
            await provider.aclose()
            await case.settled(empty)

    async def test_close(self, case: Case) -> None:
        """A provider can be closed twice, and unused; then it is unavailable."""
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
            require(case.harness.calls() == before, "a closed provider asks the backend")
            empty = case.held()
            async with case.opened():
                pass
            await case.settled(empty)

    async def test_foreign_uri(self, case: Case) -> None:
        """A URI outside what the provider is configured for never leaves the process."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.FOREIGN_URI) as provider:
            require(case.harness.foreign, "the harness names no foreign URIs")
            before = case.harness.calls()
            for uri in (*_NO_KEYS, *case.harness.foreign):
                for call in _calls(provider, uri, algorithm):
                    error = await case.refused(call(), ProviderUnsupportedError)
                    require(len(uri) < _TELLING or uri not in str(error), "the error repeats the URI")
            require(case.harness.calls() == before, "the backend is asked for a key that is none of ours")


def _calls(provider: KeyProvider, uri: str, algorithm: Algorithm) -> list[Callable[[], Awaitable[object]]]:
    """Return all that can be done with a key."""
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
