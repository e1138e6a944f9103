"""The contract on a backend that has a bad day."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from sealwright.kms.guard import ATTEMPTS
from sealwright.provider import KeyProvider

from .case import Case, require
from .harness import PATIENCE, RETRY_AFTER, Fault, Outcome
from .judging import signing_input

_SHORT: Final = 0.25
_LATEST: Final = 1.5
"""Seconds after which a call of `_SHORT` has ended, even on a busy machine."""


class FaultContract:
    """Checks that each failure of the backend has its own error, and leaves no trace when it is over."""

    async def test_denied(self, case: Case) -> None:
        """The backend denies access to the service itself. A retry cannot help, so there is none."""
        error = await _failing(case, Outcome.DENIED, Fault.DENIED, ProviderAccessDeniedError, attempts=1)
        require(error is None or error.retry_after is None, "an access-denied error has retry_after")

    @pytest.mark.parametrize(
        ("outcome", "fault", "seconds"),
        [
            pytest.param(Outcome.THROTTLED, Fault.THROTTLED, None, id="plain"),
            pytest.param(
                Outcome.THROTTLED_WITH_RETRY_AFTER, Fault.THROTTLED_WITH_RETRY_AFTER, RETRY_AFTER, id="retry_after"
            ),
        ],
    )
    async def test_throttled(self, case: Case, outcome: Outcome, fault: Fault, seconds: float | None) -> None:
        """The backend limits the rate. The provider does not retry, and passes on when to retry."""
        error = await _failing(case, outcome, fault, ProviderThrottledError, seconds=seconds)
        require(error is None or error.retry_after is not None, "the error from the guard has no retry_after")

    async def test_unavailable(self, case: Case) -> None:
        """The backend reports a failure on its own side."""
        await _failing(case, Outcome.UNAVAILABLE, Fault.UNAVAILABLE, ProviderUnavailableError)

    async def test_slow(self, case: Case) -> None:
        """A call ends at its deadline, and the provider works as before afterwards."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.SLOW) as provider:
            uri = await case.key(provider, algorithm)
            await case.signs(provider, uri, algorithm)
            message = signing_input(algorithm)
            calls: list[Callable[[], Awaitable[object]]] = [
                lambda: provider.sign(uri, algorithm, message, timeout=_SHORT),
                lambda: provider.describe(uri, timeout=_SHORT),
                lambda: case.guarded(provider).sign(uri, algorithm, message, timeout=_SHORT),
            ]
            loop = asyncio.get_running_loop()
            with case.harness.arm(Fault.SLOW):
                for call in calls:
                    start = loop.time()
                    await case.refused(call(), ProviderTimeoutError)
                    took = loop.time() - start
                    require(took < _LATEST, f"the call took {took:.2f} s; its timeout was {_SHORT} s")
            await case.signs(provider, uri, algorithm)

    async def test_no_time(self, case: Case) -> None:
        """A call without time left does not reach the backend, since nobody waits for the answer."""
        algorithm = case.some_algorithm()
        async with case.of(Outcome.NO_TIME) as provider:
            uri = await case.key(provider, algorithm)
            await case.signs(provider, uri, algorithm)
            before = case.harness.calls()
            for seconds in (0.0, -1.0):
                call = provider.sign(uri, algorithm, signing_input(algorithm), timeout=seconds)
                await case.refused(call, ProviderTimeoutError)
                await case.refused(provider.describe(uri, timeout=seconds), ProviderTimeoutError)
            require(case.harness.calls() == before, "a call without time left reaches the backend")

    async def test_check(self, case: Case) -> None:
        """`check` tells whether the backend answers, also right after a provider is opened."""
        async with case.of(Outcome.CHECK) as provider:
            await provider.check(timeout=PATIENCE)
            for fault, kind, seconds in (
                (Fault.UNAVAILABLE, ProviderUnavailableError, PATIENCE),
                (Fault.SLOW, ProviderTimeoutError, _SHORT),
            ):
                # Remove the fault before the provider is closed, since closing may wait for calls that hang.
                async with case.opened() as fresh:
                    with case.harness.arm(fault):
                        await case.refused(fresh.check(timeout=seconds), kind)
            await provider.check(timeout=PATIENCE)


async def _failing(
    case: Case,
    outcome: Outcome,
    fault: Fault,
    kind: type[ProviderError],
    *,
    seconds: float | None = None,
    attempts: int = ATTEMPTS,
) -> ProviderError | None:
    """Inject a fault while keys are described and used, and check that they work again afterwards.

    Returns:
        The error from the guard; None if the outcome was declared impossible.
    """
    algorithm = case.some_algorithm()
    seen: ProviderError | None = None
    async with case.of(outcome) as provider:
        uri = await case.warm(provider)
        before = case.harness.calls()
        await provider.sign(uri, algorithm, signing_input(algorithm), timeout=PATIENCE)
        usual = case.harness.calls() - before
        with case.harness.arm(fault):
            once, seen = await _met(case, provider, uri, kind, seconds=seconds, attempts=attempts)
        require(
            once <= usual, f"a call that fails reaches the backend {once} times, not {usual}: only the guard may retry"
        )
        await case.signs(provider, uri, algorithm)
    return seen


async def _met(
    case: Case, provider: KeyProvider, uri: str, kind: type[ProviderError], *, seconds: float | None, attempts: int
) -> tuple[int, ProviderError]:
    """Return how many calls one request makes, and the error from the guard."""
    algorithm = case.some_algorithm()
    message = signing_input(algorithm)
    await case.refused(provider.describe(uri, timeout=PATIENCE), kind)
    await case.refused(provider.sign(uri, algorithm, message, timeout=PATIENCE), kind)
    start = case.harness.calls()
    error = await case.refused(provider.sign(uri, algorithm, message, timeout=PATIENCE), kind)
    require(error.retry_after == seconds, f"retry_after is {error.retry_after}, not {seconds}")
    once = case.harness.calls() - start
    # Allow less time than the backend asks for, so that the guard does not wait.
    seen = await case.refused(case.guarded(provider).sign(uri, algorithm, message, timeout=RETRY_AFTER / 2), kind)
    tries = case.harness.calls() - start - once
    require(tries <= attempts * once, f"one request reaches the backend {tries} times, not {attempts * once}")
    return once, seen
