"""Disabling of revoked keys in the KMS: tried until it is done, because others may still reach the key with stolen credentials."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import InternalError, ProviderKeyDisabledError, ProviderKeyMissingError, SealwrightError
from sealwright.keys.backoff import Backoff
from sealwright.keys.lifecycle import Key
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

_SECONDS: Final = 3.0
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

    def undone(self) -> Mapping[str, int]:
        """Return by provider how many revoked keys could not be disabled so far."""
        counts = Counter(self._failed.values())
        return {name: counts[name] for name in {*self._providers, *counts}}

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
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
