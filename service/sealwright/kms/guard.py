"""The guard around a provider: limited concurrency, deadlines, one retry layer and a circuit breaker.

The SDKs' own retries are off, since only the guard knows the caller's deadline. The guard refuses calls at once, so that a KMS that
hangs uses up neither the service's memory nor the time of callers whom another provider could serve.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sealwright import metrics
from sealwright.clock import Clock
from sealwright.errors import (
    InternalError,
    MessageTooLargeError,
    OverloadedError,
    ProviderError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    SealwrightError,
)
from sealwright.kms.deadlines import Deadlines
from sealwright.kms.failures import FailureLog, cause_of
from sealwright.kms.places import Pace, Places, QueueFullError, RetryBudget
from sealwright.provider import (
    Algorithm,
    IdentityTeller,
    KeyCreator,
    KeyDeleter,
    KeyDescription,
    KeyDisabler,
    KeyFinder,
    KeyProvider,
    KeySpec,
    ProviderSettings,
    RawSignature,
    Timekeeper,
)

log = logging.getLogger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=SealwrightError)

ATTEMPTS: Final = 2
"""Most calls to the backend per request, so that retries do not overload a struggling KMS."""

FAILURES_TO_OPEN: Final = 5
"""Consecutive calls that must fail before the breaker opens."""

OPEN_SECONDS: Final = 1.0
"""How long an open breaker refuses calls before it permits one trial call."""

FAIR_SECONDS: Final = 0.5
"""A timeout counts as a failure of the backend only if the backend had this much time (or its `timeout`). Otherwise a caller with
very short deadlines could open the breaker for everybody."""

_BACKOFF_SECONDS: Final = (0.02, 0.1)
_FRAMES: Final = 5


class ProviderFaultError(ProviderError):
    """The provider has a bug: it raised something other than a ProviderError. The text is dropped, since it may hold anything."""


class NotAskedError(ProviderUnavailableError):
    """The breaker is open: the backend was not called."""


_SILENT: Final = (ProviderUnsupportedError, MessageTooLargeError, ProviderFaultError)
"""Errors that do not show whether the backend answers, since a provider may raise them before any call to it."""
_UNLOGGED: Final = (NotAskedError, ProviderUnsupportedError, MessageTooLargeError)
"""Errors that say nothing new, or that callers cause."""
_FAILED: Final = (ProviderUnavailableError, ProviderTimeoutError)
_SIGNS_OF_LIFE: Final = frozenset({"sign", "check", "describe"})
"""Operations whose failures say that nothing can be signed. A KMS that cannot delete a key may well sign."""


class Breaker:
    """Refuses calls to a backend that does not answer, except one trial call a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._next_try = 0.0

    def wait(self) -> float:
        """Return the seconds until a call may be tried; 0: now. In the open state, permitting a trial call delays the next one."""
        if not self.open:
            return 0.0
        now = self._clock.elapsed()
        if now < self._next_try:
            return self._next_try - now
        self._next_try = now + OPEN_SECONDS
        return 0.0

    def record(self, *, answered: bool) -> bool:
        """Record whether the backend answered. An error about the key or the caller is an answer.

        Returns:
            Whether this opened or closed the breaker.
        """
        before = self.open
        if answered:
            self._failures = 0
        else:
            self._failures += 1
            self._next_try = self._clock.elapsed() + OPEN_SECONDS
        return before is not self.open

    @property
    def open(self) -> bool:
        """Whether calls are being refused."""
        return self._failures >= FAILURES_TO_OPEN


class GuardedProvider:
    """A provider that the rest of the service can call without handling the backend's faults.

    It raises only `ProviderError` and `OverloadedError`, with the provider's configured name in the metadata.
    """

    def __init__(self, name: str, inner: KeyProvider, settings: ProviderSettings, clock: Clock) -> None:
        self.name = name
        self._inner = inner
        self._settings = settings
        self._clock = clock
        self.pace = Pace(settings.max_calls_per_second, clock) if settings.max_calls_per_second else None
        self.places = Places(settings.max_in_flight, settings.max_queue, clock, self.pace)
        self._repeats = RetryBudget()
        self._longest = settings.timeout.total_seconds()
        self.breaker = Breaker(clock)
        self._failures = FailureLog(name, clock.elapsed)
        self._deadlines = Deadlines()
        self.trouble: str | None = None
        self.heard = clock.elapsed()

    async def sign(
        self,
        uri: str,
        algorithm: Algorithm,
        message: bytes,
        *,
        timeout: float,
        last: bool = True,
        caller: str = "",
    ) -> RawSignature:
        """See `KeyProvider.sign`.

        Args:
            uri: Pinned key URI.
            algorithm: The JWS algorithm.
            message: What to sign.
            timeout: Seconds for all attempts.
            last: No other provider can sign in place of this one. Otherwise it does not wait as long as a backend may ask for.
            caller: Whose turn it takes where calls have to wait.
        """
        arguments = (uri, algorithm, message)
        return await self._call("sign", self._inner.sign, arguments, timeout, waits=last, caller=caller)

    async def sign_patiently(self, uri: str, algorithm: Algorithm, message: bytes, *, timeout: float) -> RawSignature:
        """See `KeyProvider.sign`. One attempt may take all of the time: the KMS may be busy with keys, and no caller waits."""
        return await self._call("sign", self._inner.sign, (uri, algorithm, message), timeout, whole=True)

    async def describe(self, uri: str, *, timeout: float) -> KeyDescription:
        """See `KeyProvider.describe`."""
        return await self._call("describe", self._inner.describe, (uri,), timeout)

    async def check(self, *, timeout: float) -> None:
        """See `KeyProvider.check`."""
        await self._call("check", self._inner.check, (), timeout, attempts=1)

    @property
    def manage_timeout(self) -> float:
        """Seconds that creating a key, finding it again or scheduling its deletion may take."""
        return self._settings.manage_timeout.total_seconds()

    @property
    def max_creations_per_minute(self) -> int:
        """Keys that the replicas together may begin to create in a minute."""
        return self._settings.max_creations_per_minute

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        """See `KeyCreator.create`. Never retried: a call that failed may nevertheless have created a key."""
        inner = self._capability(KeyCreator)  # type: ignore[type-abstract]
        return await self._call("create", inner.create, (spec,), timeout, attempts=1, whole=True)

    async def find(self, tags: Mapping[str, str], *, timeout: float) -> Sequence[str]:
        """See `KeyFinder.find`."""
        inner = self._capability(KeyFinder)  # type: ignore[type-abstract]
        return await self._call("find", inner.find, (tags,), timeout, whole=True)

    async def disable(self, uri: str, *, timeout: float) -> None:
        """See `KeyDisabler.disable`."""
        inner = self._capability(KeyDisabler)  # type: ignore[type-abstract]
        await self._call("disable", inner.disable, (uri,), timeout)

    async def schedule_deletion(self, uri: str, *, timeout: float) -> None:
        """See `KeyDeleter.schedule_deletion`."""
        inner = self._capability(KeyDeleter)  # type: ignore[type-abstract]
        await self._call("schedule_deletion", inner.schedule_deletion, (uri,), timeout)

    async def identity(self, *, timeout: float) -> str | None:
        """See `IdentityTeller.identity`; None: the provider cannot tell."""
        inner = self._inner
        if not isinstance(inner, IdentityTeller):
            return None
        return await self._call("identity", inner.identity, (), timeout, attempts=1)

    def time_error(self) -> float | None:
        """See `Timekeeper.time_error`; None: the provider cannot tell."""
        return self._inner.time_error() if isinstance(self._inner, Timekeeper) else None

    async def aclose(self) -> None:
        """Release all that the provider holds."""
        await self._inner.aclose()

    def _capability(self, capability: type[T]) -> T:
        if not isinstance(self._inner, capability):
            raise self._named(
                ProviderUnsupportedError(f"the provider cannot do this: it is not a {capability.__name__}")
            )
        return self._inner

    def _named(self, error: E) -> E:
        error.metadata["provider"] = self.name
        return error

    def may_repeat(self) -> bool:
        """Return whether a call that failed may be made once more, and count that."""
        return self._repeats.spend()

    async def _wait_for_place(self, caller: str, end: float, *, whole: bool) -> None:
        """Wait for one of the places. Waiting ends at the deadline, or when one whole call would have ended."""
        left = end - self._clock.elapsed()
        try:
            await self.places.wait(caller, left if whole else min(left, self._longest))
        except QueueFullError:
            problem = "too many calls to the KMS are in flight"
        except TimeoutError:
            problem = "no call to the KMS finished in time to make room for this one"
        else:
            return
        raise self._named(OverloadedError(problem, retry_after=OPEN_SECONDS))

    async def _call(
        self,
        operation: str,
        call: Callable[..., Awaitable[T]],
        arguments: tuple[Any, ...],
        timeout: float,
        *,
        attempts: int = ATTEMPTS,
        whole: bool = False,
        waits: bool = True,
        caller: str = "",
    ) -> T:
        """Make a call, and retry it where a retry can help and there is time for it.

        Args:
            operation: Name for the metrics.
            call: Makes one attempt. It also gets `timeout`, the seconds that it may take.
            arguments: Its arguments.
            timeout: Seconds for all attempts together, including the time in the queue.
            attempts: Most attempts.
            whole: Whether one attempt may take all of that time. True for calls that are slow by nature.
            waits: Whether to wait for as long as the backend asks for before a retry. Otherwise only a short wait is accepted.
            caller: Whose turn the call takes where calls have to wait.
        """
        end = self._clock.elapsed() + timeout
        self._repeats.earn()
        for attempt in range(1, attempts + 1):
            try:
                if not self.places.take():
                    await self._wait_for_place(caller, end, whole=whole)
                try:
                    return await self._attempt(operation, call, arguments, end, whole=whole)
                finally:
                    self.places.release()
            except (ProviderThrottledError, ProviderUnavailableError) as error:
                asked = error.retry_after
                pause = random.uniform(*_BACKOFF_SECONDS) if asked is None else asked  # noqa: S311 - jitter, no secret
                late = self._clock.elapsed() + pause >= end or not (waits or pause <= _BACKOFF_SECONDS[1])
                if attempt == attempts or self.breaker.open or late or not self.may_repeat():
                    error.retry_after = OPEN_SECONDS if asked is None else asked
                    raise
                await asyncio.sleep(pause)
        raise InternalError("a call to the KMS made no attempt")

    async def _attempt(
        self, operation: str, call: Callable[..., Awaitable[T]], arguments: tuple[Any, ...], end: float, *, whole: bool
    ) -> T:
        start = time.perf_counter()
        outcome = "CANCELLED"
        try:
            left = self._time(end, whole=whole)
            try:
                result = await self._deadlines.call(call, arguments, left)
            except (Exception, asyncio.CancelledError) as fault:
                fair = left >= min(FAIR_SECONDS, self._longest)
                error = self._judged(fault, fair=fair, vital=operation in _SIGNS_OF_LIFE)
                if error is fault:
                    raise
                raise error from None
            self._hear(None)
            self.places.answered()
            if self.breaker.record(answered=True):
                log.info("provider %s answers again", self.name)
        except SealwrightError as error:
            outcome = error.reason
            if not isinstance(error, _UNLOGGED):
                self._failures.note(operation, error)
            raise
        else:
            outcome = "ok"
            return result
        finally:
            metrics.tally(metrics.KMS_CALLS, self.name, operation, outcome).add()
            metrics.distribution(metrics.KMS_SECONDS, self.name, operation).add(time.perf_counter() - start)

    def _time(self, end: float, *, whole: bool) -> float:
        """Return the seconds that an attempt may take.

        Raises:
            ProviderTimeoutError: There is no time left.
            NotAskedError: The breaker is open.
        """
        left = end - self._clock.elapsed()
        if not whole:
            left = min(left, self._longest)
        # Check this before the breaker: a call that cannot be made must not use up the trial that the breaker permits.
        if left <= 0:
            raise self._named(ProviderTimeoutError("the deadline passed before the KMS could be called", retry_after=0))
        wait = self.breaker.wait()
        if wait:
            raise self._named(
                NotAskedError("calls to the KMS are paused, because the last ones failed", retry_after=wait)
            )
        return left

    def _judged(self, fault: BaseException, *, fair: bool, vital: bool) -> BaseException:
        """Record that an attempt failed. Return what to raise for it."""
        if isinstance(fault, TimeoutError):
            error = ProviderTimeoutError("the KMS did not answer before the deadline", retry_after=OPEN_SECONDS)
            self._record_failure(error, fair=fair, vital=vital)
            return self._named(error)
        if isinstance(fault, ProviderError):
            self._record_failure(fault, fair=fair, vital=vital)
            return self._named(fault)
        task = asyncio.current_task()
        if isinstance(fault, asyncio.CancelledError) and (task is None or task.cancelling()):
            return fault  # Our caller cancelled the call. Otherwise the provider cancelled itself.
        log.error("provider %s has a bug: it raised %s", self.name, _outline(fault))
        return self._named(ProviderFaultError("the provider failed because of a bug in it"))

    def _hear(self, trouble: str | None) -> None:
        self.trouble, self.heard = trouble, self._clock.elapsed()

    def _record_failure(self, error: ProviderError, *, fair: bool, vital: bool) -> None:
        if isinstance(error, _SILENT) or (isinstance(error, ProviderTimeoutError) and not fair):
            return
        if isinstance(error, (ProviderThrottledError, ProviderTimeoutError)):
            self.places.crowded()
        if isinstance(error, _FAILED) and not vital:
            return
        self._hear(error.reason if isinstance(error, _FAILED) else None)
        changed = self.breaker.record(answered=not isinstance(error, _FAILED))
        if changed and self.breaker.open:
            cause = cause_of(error.__cause__) or "no further details"
            log.warning(
                "provider %s does not answer (%s; %s): calls are refused, except one trial a second",
                self.name,
                error.reason,
                cause,
            )
        elif changed:
            log.info("provider %s answers again", self.name)


def _outline(fault: BaseException) -> str:
    """Return where an exception comes from. It contains only names in the code, never a value."""
    frames = traceback.extract_tb(fault.__traceback__)[-_FRAMES:]
    return " < ".join([type(fault).__name__, *(f"{f.name} ({f.filename}:{f.lineno})" for f in reversed(frames))])
