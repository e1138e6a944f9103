"""Rotation: moves the keys of every issuer on, one step and one transaction at a time.

Any replica may do it. Each step is a compare-and-swap on the state that it was computed from, so exactly one wins, and each
deadline is written in a step of its own after the commit that it counts from has been read (see `keys/lifecycle.py`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import InternalError, SealwrightError, StateTooOldError
from sealwright.ids import uuid7
from sealwright.jose.jwk import key_id
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Create, Destroy, Key, Step, apply_step, next_steps
from sealwright.keys.ports import Intent, IssuerState, KeyEvents, KeyStore, StoreUnavailableError
from sealwright.keys.reconcile import KeyMaker, describe_failure
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.settings import IssuerSettings, TimingSettings
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

_CLAIM_FACTOR: Final = 3
"""How many times `manage_timeout` a claim holds: looking for the key, creating it, and the store."""
_FIRST_SET_PATIENCE: Final = timedelta(seconds=15)
"""How long an issuer's first set waits for keys that are slow to come, once it has some."""
_BACKOFF: Final = (1.0, 60.0)
_MAX_STEPS: Final = 100
_CONTENTION_TRIES: Final = 50


class Rotator:
    """Does what `lifecycle.next_steps` says is due, and turns intents into published keys."""

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
        self._clock = clock
        self._events = events
        self._making: dict[str, asyncio.Task[None]] = {}
        self._fresh: set[str] = set()
        self._retry_at: dict[str, tuple[float, float]] = {}
        self._wake = asyncio.Event()
        self._said: dict[str, str] = {}
        self.failing: dict[str, str] = {}
        """Why keys of an issuer could not be created at the last try, by issuer; for people and for the start."""

    def wake(self) -> None:
        """Look at once whether something is due."""
        self._wake.set()

    async def run(self) -> None:
        """Rotate until cancelled. Nothing that goes wrong ends it."""
        interval = self._timing.refresh_interval.total_seconds()
        try:
            while True:
                await self.tick()
                self._wake.clear()
                try:
                    async with asyncio.timeout(interval * random.uniform(0.75, 1.25)):  # noqa: S311 - jitter, no secret
                        await self._wake.wait()
                except TimeoutError:
                    pass
        finally:
            for task in list(self._making.values()):
                task.cancel()
            await asyncio.gather(*self._making.values(), return_exceptions=True)

    async def tick(self) -> None:
        """Do all that is due now, for every issuer of the configuration; what goes wrong with one does not hold up the others."""
        for settings in self._keyring.settings.values():
            try:
                for _ in range(_MAX_STEPS):
                    if not await self._advance(settings):
                        break
            except StoreUnavailableError as error:
                self._log_once(settings.name, f"rotation waits for the store: {error}")
            except Exception:
                log.exception("issuer %s: rotation failed; it is tried again", settings.name)
            else:
                self._said.pop(settings.name, None)

    def _log_once(self, issuer: str, text: str) -> None:
        if self._said.get(issuer) != text:
            log.warning("issuer %s: %s", issuer, text)
        self._said[issuer] = text

    async def _advance(self, settings: IssuerSettings) -> bool:
        """Take one step for an issuer; tell whether there may be another."""
        await self._sync.refresh()
        state = self._state(settings.name)
        if state is None:
            await self._store.ensure_issuer(settings.name, settings.limits(self._timing))
            return True
        if state.limits.raised_to(settings.limits(self._timing)) != state.limits:
            await self._store.ensure_issuer(settings.name, settings.limits(self._timing))
            return True
        try:
            self._keyring.require_fresh(self._keyring.view(settings.name))
        except StateTooOldError:
            return False  # A clock that is wrong would write deadlines that are.
        return await self._publish(settings, state) or await self._step(settings, state)

    async def _step(self, settings: IssuerSettings, state: IssuerState) -> bool:
        # An intent for a provider or a series that is no longer configured waits for nobody, and nobody for it.
        mine = [i for i in state.intents if i.provider in self._providers]
        self._make_open(settings, [i for i in mine if any(s.name == i.series for s in settings.series)])
        waiting = {s.name: sum(i.series == s.name for i in mine) for s in settings.series}
        policies = [s.policy() for s in settings.series]
        # The clock is read after the state was: a commit that the state shows lies before `now`.
        now = self._keyring.now()
        for step in next_steps(state.keys, policies, state.limits, waiting, now):
            if isinstance(step, Create):
                await self._record(settings, state, step)
                return True
            if await self._take(state, step):
                return True
        return False

    def _state(self, issuer: str) -> IssuerState | None:
        state = self._keyring.state
        return state.issuers.get(issuer) if state else None

    async def _take(self, state: IssuerState, step: Step) -> bool:
        """Write one step; another replica may have been quicker."""
        if isinstance(step, Create):
            return False
        key = next(k for k in state.keys if k.kid == step.kid)
        if isinstance(step, Destroy) and not await self._destroy(key):
            return False
        changed = apply_step(key, step, self._keyring.now())
        if await self._store.change_keys(state, [changed]):
            await self._events.changed(key, changed)
        return True

    async def _destroy(self, key: Key) -> bool:
        provider = self._providers.get(key.provider)
        if provider is None or self._waits(key.kid):
            return False
        try:
            await provider.schedule_deletion(key.uri, timeout=provider.manage_timeout)
        except SealwrightError as error:
            self._failed(key.kid, key.issuer, error)
            return False
        return True

    async def _record(self, settings: IssuerSettings, state: IssuerState, step: Create) -> None:
        series = next(s for s in settings.series if s.name == step.series)
        now = self._keyring.now()
        intents = [
            Intent(
                intent_id=uuid7(),
                issuer=settings.name,
                series=series.name,
                algorithm=series.algorithm,
                provider=series.provider,
                create_time=now,
                claimed_by=self._sync.replica_id,
                claim_expire_time=now + self._claim(series.provider),
            )
            for _ in range(step.count)
        ]
        if await self._store.add_intents(state, intents):
            self._fresh |= {i.intent_id for i in intents}

    def _make_open(self, settings: IssuerSettings, intents: Sequence[Intent]) -> None:
        """See to every intent without a key that is this replica's, or whose claim is over."""
        now = self._keyring.now()
        for intent in intents:
            mine = intent.claimed_by == self._sync.replica_id
            if intent.uri or intent.intent_id in self._making or self._waits(intent.intent_id):
                continue
            if mine or intent.claim_expire_time <= now:
                task = asyncio.create_task(self._make(settings, intent))
                self._making[intent.intent_id] = task
                task.add_done_callback(partial(self._made, intent.intent_id))

    def _made(self, intent_id: str, _task: asyncio.Task[None]) -> None:
        self._making.pop(intent_id, None)
        self._wake.set()

    async def _make(self, settings: IssuerSettings, intent: Intent) -> None:
        series = next((s for s in settings.series if s.name == intent.series), None)
        state = self._keyring.state
        if series is None or state is None:
            return
        first = intent.intent_id in self._fresh
        self._fresh.discard(intent.intent_id)
        claimed = intent
        try:
            if not first:
                until = self._keyring.now() + self._claim(intent.provider)
                claimed = replace(intent, claimed_by=self._sync.replica_id, claim_expire_time=until)
                if not await self._write_intent(intent, claimed):
                    return
            maker = KeyMaker(self._providers, state.deployment_id)
            made = await maker.make(claimed, settings, series, first=first)
            await self._write_intent(claimed, replace(claimed, uri=made.uri, public_key=made.public_key or b""))
            self._retry_at.pop(intent.intent_id, None)
            self.failing.pop(settings.name, None)
        except SealwrightError as error:
            self._failed(intent.intent_id, settings.name, error)
        except StoreUnavailableError:
            log.warning("a key was created, but the store cannot be reached; its intent will find it again")
        except Exception:
            log.exception("creating a key failed")
            self._failed(intent.intent_id, settings.name, InternalError("creating a key failed"))

    async def _write_intent(self, old: Intent, new: Intent) -> bool:
        """Write an intent, unless another replica has changed it; other writes to the issuer may come between."""
        for _ in range(_CONTENTION_TRIES):
            await self._sync.refresh()
            state = self._state(old.issuer)
            if state is None or old not in state.intents:
                return False
            if await self._store.change_intent(state, new):
                return True
        return False

    async def _publish(self, settings: IssuerSettings, state: IssuerState) -> bool:
        """Publish the keys that have been created; an issuer's first ones together, since they alone are ready at once."""
        made = [i for i in state.intents if i.uri]
        if not made:
            return False
        now = self._keyring.now()
        first = state.first_publish_time is None
        if first and len(made) < self._wanted(settings) and now < made[0].create_time + _FIRST_SET_PATIENCE:
            return False
        at_once = first and not settings.migrating
        places: dict[str, int] = {}
        keys: list[Key] = []
        for intent in made:
            last = max((k.ordinal for k in state.keys if k.series == intent.series), default=0)
            places[intent.series] = places.get(intent.series, last) + 1
            keys.append(
                Key(
                    kid=key_id(intent.public_key or None, intent.uri),
                    issuer=settings.name,
                    series=intent.series,
                    ordinal=places[intent.series],
                    algorithm=intent.algorithm,
                    provider=intent.provider,
                    uri=intent.uri,
                    public_key=intent.public_key,
                    publish_time=now,
                    ready_time=now if at_once else None,
                ),
            )
        done = [replace(i, kid=k.kid) for i, k in zip(made, keys, strict=True)]
        if await self._store.publish(state, keys, done):
            for key in keys:
                await self._events.published(key)
        return True

    def _claim(self, provider: str) -> timedelta:
        return timedelta(seconds=_CLAIM_FACTOR * self._providers[provider].manage_timeout)

    def _wanted(self, settings: IssuerSettings) -> int:
        return sum(2 for s in settings.series if s.create)

    def _waits(self, name: str) -> bool:
        return self._clock.elapsed() < self._retry_at.get(name, (0.0, 0.0))[0]

    def _failed(self, name: str, issuer: str, error: SealwrightError) -> None:
        pause = min(max(_BACKOFF[0], 2 * self._retry_at.get(name, (0.0, 0.0))[1]), _BACKOFF[1])
        self._retry_at[name] = (self._clock.elapsed() + pause, pause)
        reason = describe_failure(error)
        if self.failing.get(issuer) != reason:
            log.warning("issuer %s: a key could not be created: %s", issuer, reason)
        self.failing[issuer] = reason
