"""Rotation: moves the keys of every issuer on, one step and one transaction at a time.

Any replica may do it. Each step is a compare-and-swap on the state that it was computed from, so exactly one replica wins. Each
deadline is written in a step of its own, after the commit that it counts from has been read (see `keys/lifecycle.py`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import SealwrightError
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys.backoff import Backoff
from sealwright.keys.changes import KeyChanges
from sealwright.keys.creation import KeyCreation, describe_failure
from sealwright.keys.disabling import KeyDisabling
from sealwright.keys.issuer import Issuer
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Create, Destroy, Key, KeyStep, apply_step, next_steps
from sealwright.keys.ports import KeyEvents, KeyStore, StoreUnavailableError
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.settings import TimingSettings, limits, series_policy
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

_MAX_STEPS: Final = 100


class Rotator:
    """Takes the steps that `lifecycle.next_steps` says are due.

    Attributes:
        creation: Creates the keys that are missing.
        disabling: Disables the revoked keys.
    """

    def __init__(
        self,
        *,
        store: KeyStore,
        keyring: Keyring,
        sync: ReplicaSync,
        providers: Mapping[str, GuardedProvider],
        timing: TimingSettings,
        clock: Clock,
        events: KeyEvents,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._sync = sync
        self._providers = providers
        self._timing = timing
        self._changes = KeyChanges(store, keyring, sync, events)
        self._deletions = Backoff(clock)
        self.disabling = KeyDisabling(providers, clock)
        self._wake = asyncio.Event()
        self._logged: dict[str, str] = {}
        self.creation = KeyCreation(
            store=store,
            keyring=keyring,
            sync=sync,
            providers=providers,
            clock=clock,
            events=events,
            on_progress=self.wake,
        )

    def wake(self) -> None:
        """Look at once whether a step is due."""
        self._wake.set()

    async def run(self) -> None:
        """Rotate until cancelled. No error ends the loop."""
        interval = self._timing.refresh_interval.total_seconds()
        try:
            while True:
                await self.tick()
                self.disabling.start(self._keys())
                self._wake.clear()
                try:
                    async with asyncio.timeout(interval * random.uniform(0.75, 1.25)):  # noqa: S311 - jitter, no secret
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            await self.creation.aclose()
            await self.disabling.aclose()

    def _keys(self) -> list[Key]:
        issuers = (self._keyring.find(s.name) for s in self._keyring.issuers)
        return [k for issuer in issuers if issuer is not None for k in issuer.state.keys]

    async def tick(self) -> None:
        """Take all steps that are due now, for every configured issuer. A failure of one issuer does not delay the others."""
        for settings in self._keyring.issuers:
            try:
                for _ in range(_MAX_STEPS):
                    if not await self._advance(settings):
                        break
            except StoreUnavailableError as error:
                self._log_once(settings.name, f"issuer {settings.name}: rotation waits for the store: {error}")
            except Exception:
                log.exception("issuer %s: rotation failed; it will be tried again", settings.name)
            else:
                self._logged.pop(settings.name, None)

    def _log_once(self, subject: str, text: str) -> None:
        if self._logged.get(subject) != text:
            log.warning("%s", text)
        self._logged[subject] = text

    async def _advance(self, settings: IssuerSettings) -> bool:
        """Take one step for an issuer. Return whether another step may be due."""
        await self._sync.refresh()
        issuer = self._keyring.find(settings.name)
        wanted = limits(settings, self._timing)
        if issuer is None or issuer.limits.raised_to(wanted) != issuer.limits:
            await self._store.ensure_issuer(settings.name, wanted)
            return True
        if issuer.stale is not None:
            return False  # A wrong clock would write wrong deadlines.
        return await self.creation.publish(issuer) or await self._step(issuer)

    async def _step(self, issuer: Issuer) -> bool:
        self.creation.start(issuer)
        policies = [series_policy(s, self._timing) for s in issuer.settings.series]
        waiting = self.creation.open_intents(issuer)
        for step in next_steps(issuer.state.keys, policies, issuer.limits, waiting, issuer.now):
            if isinstance(step, Create):
                if await self.creation.record(issuer, step):
                    return True
            elif await self._take(issuer, step):
                return True
        return False

    async def _take(self, issuer: Issuer, step: KeyStep) -> bool:
        """Take a step of a key. Return False if it has to wait; another replica that was quicker does not count as waiting."""
        key = issuer.keys[step.kid].record
        if isinstance(step, Destroy) and not await self._schedule_deletion(key):
            return False
        await self._changes.write(issuer, [apply_step(key, step, issuer.now)])
        return True

    async def _schedule_deletion(self, key: Key) -> bool:
        provider = self._providers.get(key.provider)
        if provider is None or self._deletions.waits(key.kid):
            return False
        try:
            await provider.schedule_deletion(key.uri, timeout=provider.manage_timeout)
        except SealwrightError as error:
            self._deletions.failed(key.kid)
            text = f"the deletion of key {key.kid} could not be scheduled: {describe_failure(error)}"
            self._log_once(key.kid, f"issuer {key.issuer}: {text}")
            return False
        self._deletions.succeeded(key.kid)
        self._logged.pop(key.kid, None)
        return True
