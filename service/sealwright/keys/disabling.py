"""Disabling of revoked keys in the KMS: tried until it is done, because others may still reach the key with stolen credentials."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import InternalError, ProviderKeyDisabledError, ProviderKeyMissingError, SealwrightError
from sealwright.keys.backoff import Backoff
from sealwright.keys.lifecycle import Key
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

_SECONDS: Final = 3.0
_WAIT_SECONDS: Final = 5.0
"""How long a call waits for its keys to be disabled."""
_SIDE_BY_SIDE: Final = 16
_KEYS_AT_ONCE: Final = 5
"""AWS KMS allows 5 calls of DisableKey per second and account."""


class KeyDisabling:
    """Disables revoked keys in the KMS.

    What is done is not in the store: each process makes sure of it once. Disabling a disabled key changes nothing.
    """

    def __init__(self, providers: Mapping[str, GuardedProvider], clock: Clock) -> None:
        self._providers = providers
        self._pauses = Backoff(clock)
        self._done: set[str] = set()
        self._failed: dict[str, str] = {}
        self._busy: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[str | None]] = set()
        self._turns = asyncio.Semaphore(_SIDE_BY_SIDE)

    def undone(self) -> Mapping[str, int]:
        """Return by provider how many revoked keys could not be disabled so far."""
        counts = Counter(self._failed.values())
        return {name: counts[name] for name in {*self._providers, *counts}}

    async def disable_all(self, keys: Sequence[Key]) -> list[str]:
        """Disable revoked keys, side by side, for some seconds. What is left then goes on in the background.

        Returns:
            A warning for each key that failed, and one about those that are left.
        """
        tasks = [asyncio.create_task(self._in_turn(k)) for k in keys if not k.destroy_time]
        if not tasks:
            return []
        self._background |= set(tasks)
        for task in tasks:
            task.add_done_callback(self._background.discard)
        done, left = await asyncio.wait(tasks, timeout=_WAIT_SECONDS)
        warnings = [w for task in done if (w := task.result()) is not None]
        if left:
            warnings.append(
                f"{len(left)} keys are still being disabled in the KMS; sealwright_revoked_keys_not_disabled counts them"
            )
            for key in keys:
                if key.kid in self._busy:
                    self._failed.setdefault(key.kid, key.provider)
        return warnings

    async def _in_turn(self, key: Key) -> str | None:
        self._busy.add(key.kid)
        async with self._turns:
            return await self.disable(key)

    async def disable(self, key: Key) -> str | None:
        """Disable a revoked key. Return a warning if that fails.

        Args:
            key: The key. It may be disabled already.
        """
        self._busy.add(key.kid)
        try:
            await self._call(key)
        except (ProviderKeyMissingError, ProviderKeyDisabledError):
            pass  # Without a key, or with one that is pending deletion, nobody signs either.
        except SealwrightError as error:
            if key.kid not in self._failed:
                log.warning(
                    "revoked key %s could not be disabled by provider %s (%s); it will be tried again",
                    key.kid,
                    key.provider,
                    error.reason,
                )
            self._failed[key.kid] = key.provider
            self._pauses.failed(key.kid)
            return f"key {key.kid} could not be disabled in the KMS yet ({error.reason}): disable it there"
        finally:
            self._busy.discard(key.kid)
        if self._failed.pop(key.kid, None) is not None:
            log.info("revoked key %s is disabled by provider %s now", key.kid, key.provider)
        self._pauses.succeeded(key.kid)
        self._done.add(key.kid)
        return None

    async def _call(self, key: Key) -> None:
        provider = self._providers.get(key.provider)
        if provider is None:
            raise InternalError("the provider is not configured")
        await provider.disable(key.uri, timeout=_SECONDS)

    def start(self, keys: Iterable[Key]) -> None:
        """Start to disable those revoked keys of which this process does not know that they are disabled; a few at a time.

        Args:
            keys: All keys.
        """
        if self._task is not None and not self._task.done():
            return
        undone = {k.kid: k for k in keys if k.revoke_time and not k.destroy_time and k.kid not in self._done}
        self._failed = {kid: provider for kid, provider in self._failed.items() if kid in undone}
        due = [k for k in undone.values() if k.kid not in self._busy and not self._pauses.waits(k.kid)][:_KEYS_AT_ONCE]
        if due:
            self._task = asyncio.create_task(self._disable_all(due))

    async def _disable_all(self, keys: Iterable[Key]) -> None:
        await asyncio.gather(*(self.disable(k) for k in keys))

    async def aclose(self) -> None:
        """Stop. The next process goes on."""
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
