"""Rotation: moves the keys of every issuer on, one step and one transaction at a time.

Any replica may do it. Each step is a compare-and-swap on the state that it was computed from, so exactly one replica wins. Each
deadline is written in a step of its own, after the commit that it counts from has been read (see `keys/lifecycle.py`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

from sealwright.clock import Clock
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys.changes import KeyChanges
from sealwright.keys.creation import KeyCreation
from sealwright.keys.disabling import KeyDisabling
from sealwright.keys.due import next_time
from sealwright.keys.ending import KeyEnding
from sealwright.keys.issuer import Issuer
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Key
from sealwright.keys.ports import IssuerState, KeyEvents, KeyStore, StoreState, StoreUnavailableError
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.settings import TimingSettings, limits, series_policy
from sealwright.keys.steps import Create, Destroy, Disable, KeyStep, SeriesPolicy, Step, apply_step, next_steps
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

_MAX_STEPS: Final = 100
_LOOK_SECONDS: Final = 1.0
"""How often the store is asked about an issuer whose keys are being created."""


_POSTPONED: Final = timedelta(seconds=10)
"""When an issuer is looked at again for which nothing but what a KMS has refused is due."""


class Rotator:
    """Takes the steps that `next_steps` says are due.

    Attributes:
        creation: Creates the keys that are missing.
        disabling: Disables the revoked keys.
        ending: Disables and deletes the keys that have left the JWK Set.
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
        self._timing = timing
        self._changes = KeyChanges(store, keyring, sync, events)
        self.disabling = KeyDisabling(providers, clock)
        self.ending = KeyEnding(providers, clock, self.wake)
        self._wake = asyncio.Event()
        self._logged: dict[str, str] = {}
        self._clock = clock
        self._waiting: dict[str, tuple[IssuerState, float]] = {}
        self._crowded: dict[str, tuple[IssuerState, set[str], datetime]] = {}
        self._quiet: dict[str, tuple[IssuerState, datetime | None]] = {}
        self._revoked: tuple[StoreState | None, list[Key]] = (None, [])
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
                self.disabling.start(self._revoked_keys())
                self._wake.clear()
                try:
                    async with asyncio.timeout(interval * random.uniform(0.75, 1.25)):  # noqa: S311 - jitter, no secret
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            await self.creation.aclose()
            await self.disabling.aclose()
            await self.ending.aclose()

    def _revoked_keys(self) -> list[Key]:
        state, revoked = self._keyring.state, self._revoked
        if state is not revoked[0]:
            rows = [state.issuers[i.name] for i in self._keyring.issuers if i.name in state.issuers] if state else []
            revoked = self._revoked = (state, [k for row in rows for k in row.keys if k.revoke_time])
        return revoked[1]

    async def tick(self) -> None:
        """Take all steps that are due now, for every configured issuer. A failure of one issuer does not delay the others."""
        for settings in self._keyring.issuers:
            if self._is_quiet(settings.name) or self._is_crowded(settings.name) or self._waits(settings.name):
                continue
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

    def _is_quiet(self, name: str) -> bool:
        """Return whether nothing is due for an issuer: its state is as it was when nothing was due, and no time has come."""
        known, state = self._quiet.get(name), self._keyring.state
        if known is None or state is None or state.issuers.get(name) is not known[0]:
            return False
        return known[1] is None or self._keyring.now() < known[1]

    def _is_crowded(self, name: str) -> bool:
        """Return whether an issuer, whose state is as it was, only waits for the quotas of providers."""
        known, state = self._crowded.get(name), self._keyring.state
        if known is None or state is None or state.issuers.get(name) is not known[0]:
            return False
        return all(map(self.creation.is_full, known[1])) and self._keyring.now() < known[2]

    def _waits(self, name: str) -> bool:
        """Return whether an issuer waits for its keys, and was looked at a moment ago. Start what there is room for."""
        known, state = self._waiting.get(name), self._keyring.state
        if known is None or state is None or state.issuers.get(name) is not known[0]:
            return False
        if self._clock.elapsed() - known[1] >= _LOOK_SECONDS:
            return False
        issuer = self._keyring.find(name)
        if issuer is not None and issuer.stale is None and self.creation.has_room:
            self.creation.start(issuer)
        return True

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
        self.creation.crowded.pop(issuer.name, None)
        more = await self.creation.publish(issuer) or await self._step(issuer)
        crowded = self.creation.crowded.get(issuer.name)
        policies = self._policies(issuer)
        if crowded and not (more or issuer.state.intents):
            end = next_time(issuer.state.keys, policies, issuer.limits) or datetime.max.replace(tzinfo=UTC)
            self._crowded[settings.name] = (issuer.state, crowded, end)
        if issuer.state.intents and not more:
            self._waiting[settings.name] = (issuer.state, self._clock.elapsed())
        due = [] if more else next_steps(issuer.state.keys, policies, issuer.limits, {}, issuer.now)
        if not (more or issuer.state.intents) and all(self._postponed(step) for step in due):
            soon = issuer.now + _POSTPONED if due else next_time(issuer.state.keys, policies, issuer.limits)
            self._quiet[settings.name] = (issuer.state, soon)
        return more

    def _postponed(self, step: Step) -> bool:
        return isinstance(step, Disable | Destroy) and self.ending.postponed(step)

    def _policies(self, issuer: Issuer) -> list[SeriesPolicy]:
        state = self._keyring.state
        deployment = "" if state is None else state.deployment_id
        return [
            series_policy(s, self._timing, issuer=issuer.name, deployment_id=deployment) for s in issuer.settings.series
        ]

    async def _step(self, issuer: Issuer) -> bool:
        self.creation.start(issuer)
        policies = self._policies(issuer)
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
        if isinstance(step, Disable | Destroy) and not self.ending.done(key, step):
            return False
        await self._changes.write(issuer, [apply_step(key, step, issuer.now)])
        return True
