"""The end of keys in the KMS: disabled after their withdrawal, and deleted at a deadline of their own.

The KMS is asked outside of rotation, a few keys at a time, so that one that does not answer delays nothing. Rotation writes what is
done. A process that ends in between leaves the step to the next one: both calls may be repeated.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import (
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnsupportedError,
    SealwrightError,
)
from sealwright.keys.backoff import Backoff
from sealwright.keys.creation import describe_failure
from sealwright.keys.lifecycle import Key
from sealwright.keys.steps import Destroy, Disable
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

_AT_ONCE: Final = 5
"""AWS KMS allows 5 calls of DisableKey or ScheduleKeyDeletion per second and account."""

Ending = Disable | Destroy


class KeyEnding:
    """Asks the KMS for the ends of keys."""

    def __init__(self, providers: Mapping[str, GuardedProvider], clock: Clock, on_progress: Callable[[], None]) -> None:
        """Prepare.

        Args:
            providers: By configured name.
            clock: For pauses after failures.
            on_progress: Is called when a step may be written.
        """
        self._providers = providers
        self._pauses = Backoff(clock)
        self._on_progress = on_progress
        self._tasks: dict[Ending, asyncio.Task[None]] = {}
        self._done: set[Ending] = set()
        self._refused: set[Ending] = set()

    def done(self, key: Key, step: Ending) -> bool:
        """Return whether the KMS has done a step, so that it may be written. If it has not been asked, it is now."""
        if step in self._done:
            self._done.discard(step)
            return True
        provider = self._providers.get(key.provider)
        if provider is None:
            self._refused.add(step)
        asks = step not in self._tasks and len(self._tasks) < _AT_ONCE and not self.postponed(step)
        if provider is not None and asks:
            task = asyncio.create_task(self._ask(provider, key, step))
            self._tasks[step] = task
            task.add_done_callback(lambda _: self._ended(step))
        return False

    def postponed(self, step: Ending) -> bool:
        """Return whether the KMS has failed or refused, and is not asked again for some time."""
        return step in self._refused or self._pauses.waits(_name(step))

    def _ended(self, step: Ending) -> None:
        del self._tasks[step]
        if step in self._done:
            self._on_progress()

    async def _ask(self, provider: GuardedProvider, key: Key, step: Ending) -> None:
        call: Callable[..., Awaitable[None]]
        call = provider.disable if isinstance(step, Disable) else provider.schedule_deletion
        try:
            await call(key.uri, timeout=provider.manage_timeout)
        except SealwrightError as error:
            if not (
                isinstance(step, Disable) and isinstance(error, ProviderKeyDisabledError | ProviderKeyMissingError)
            ):
                self._failed(key, step, error)
                return
            # A key that is gone, or pending deletion, does not sign either.
        self._pauses.succeeded(_name(step))
        self._done.add(step)

    def _failed(self, key: Key, step: Ending, error: SealwrightError) -> None:
        if not self._pauses.failing(_name(step)):
            what, done = ("", "disabled") if isinstance(step, Disable) else ("the deletion of ", "scheduled")
            reason = describe_failure(error)
            log.warning("issuer %s: %skey %s could not be %s: %s", key.issuer, what, key.kid, done, reason)
        if isinstance(error, ProviderUnsupportedError):
            self._refused.add(step)  # until the next start: it would be refused again
        self._pauses.failed(_name(step))

    async def aclose(self) -> None:
        """Stop. The next process goes on."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _name(step: Ending) -> str:
    return f"{type(step).__name__} {step.kid}"
