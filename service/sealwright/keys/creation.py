"""From what a series lacks to a published key: an intent, a key in the KMS, a row in the store.

The intent is in the store before the KMS is asked, and the key carries the intent's id as a tag. `keys/making.py` takes one pass
over one intent; this module says which are due, records those that are missing, and publishes what was made.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import InternalError, SealwrightError
from sealwright.ids import uuid7
from sealwright.issuer_settings import IssuerSettings, SeriesSettings
from sealwright.jose.jwk import key_id
from sealwright.keys import choice
from sealwright.keys.backoff import Backoff
from sealwright.keys.issuer import Issuer
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import QUEUE_LENGTH, Key
from sealwright.keys.making import KeyMaking
from sealwright.keys.ports import Intent, KeyEvents, KeyStore, Outcome, StoreUnavailableError
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.steps import Create
from sealwright.kms.guard import GuardedProvider
from sealwright.times import MINUTE

log = logging.getLogger(__name__)

_AT_ONCE: Final = 32
"""Intents that are worked on at the same time."""
_DAY: Final = timedelta(days=1)
_QUOTA_SECONDS: Final = 1.0
"""How long a provider without quota is left alone."""
_FIRST_SET_PATIENCE: Final = timedelta(seconds=15)
"""How long an issuer's first JWK Set waits for slow keys once it has some."""


class KeyCreation:
    """Creates keys and publishes them.

    Attributes:
        failing: Why the last try to create a key failed, by issuer.
        crowded: Providers that had no quota for keys of an issuer when it was looked at last, by issuer.
    """

    def __init__(
        self,
        *,
        store: KeyStore,
        keyring: Keyring,
        sync: ReplicaSync,
        providers: Mapping[str, GuardedProvider],
        clock: Clock,
        events: KeyEvents,
        on_progress: Callable[[], None],
    ) -> None:
        """Prepare.

        Args:
            store: The store.
            keyring: The snapshot that is kept in step with it.
            sync: Reads the store.
            providers: By configured name.
            clock: For pauses after failures.
            events: Is told of published keys.
            on_progress: Is called when a key has been created, or could not be.
        """
        self._store = store
        self._keyring = keyring
        self._sync = sync
        self._providers = providers
        self._events = events
        self._on_progress = on_progress
        self._making = KeyMaking(store=store, keyring=keyring, sync=sync, providers=providers)
        self._backoff = Backoff(clock)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._new: set[str] = set()
        self._stuck: dict[str, set[str]] = {}
        self._bounded: set[str] = set()
        self.failing: dict[str, str] = {}
        self.crowded: dict[str, set[str]] = {}
        self._clock = clock
        self._full: dict[str, float] = {}

    async def record(self, issuer: Issuer, step: Create) -> bool:
        """Record intents for the keys that a series lacks, unless another replica has just done so.

        Returns:
            False if too many keys were created lately that could not be published, the provider is blocked, or the replicas have
            begun as many keys there in the last minute as they may.
        """
        series = next(s for s in issuer.settings.series if s.name == step.series)
        if self._blocked(series.provider):
            self._bounded.add(issuer.name)
            self._say(
                issuer.name,
                f"all keys of provider {series.provider} were revoked, and none is created there "
                f"(`sealwright keys unblock {series.provider}`)",
            )
            return False
        if not await self._has_quota(series.provider, issuer.now, step.count):
            self.crowded.setdefault(issuer.name, set()).add(series.provider)
            return False
        lost = await self._store.unpublished(issuer.name, series.name, issuer.now - _DAY)
        if lost + step.count > series.max_unpublished_keys:
            self._bounded.add(issuer.name)
            self._say(issuer.name, f"{lost} keys of series {series.name} in 24 hours could not be published")
            return False
        intents = [
            Intent(
                intent_id=uuid7(),
                issuer=issuer.name,
                series=series.name,
                algorithm=series.algorithm,
                provider=series.provider,
                create_time=issuer.now,
                claimed_by=self._sync.replica_id,
                claim_expire_time=issuer.now + self._making.claim(series.provider),
                asked_time=issuer.now,  # as soon as it is recorded
            )
            for _ in range(step.count)
        ]
        if await self._store.add_intents(issuer.state, intents):
            self._new |= {i.intent_id for i in intents}
        return True

    def is_full(self, provider: str) -> bool:
        """Return whether a provider had no quota for another key a moment ago, so that the store need not be asked again."""
        return self._clock.elapsed() < self._full.get(provider, 0.0)

    async def _has_quota(self, provider: str, now: datetime, count: int) -> bool:
        """Return whether the replicas together may begin so many keys now.

        Several that ask at once may exceed the quota by a key or two each.
        """
        guarded = self._providers.get(provider)
        if guarded is None:
            return True
        if self.is_full(provider):
            return False
        if await self._store.begun(provider, now - MINUTE) + count <= guarded.max_creations_per_minute:
            if self._full.pop(provider, None) is not None:
                log.info("provider %s: more keys are created", provider)
            return True
        if provider not in self._full:
            log.info("provider %s: %d keys a minute are created; more wait", provider, guarded.max_creations_per_minute)
        self._full[provider] = self._clock.elapsed() + _QUOTA_SECONDS
        return False

    def _blocked(self, provider: str) -> bool:
        state = self._keyring.state
        return state is not None and provider in state.blocked

    def open_intents(self, issuer: Issuer) -> dict[str, int]:
        """Count the keys on their way by series. Intents of a provider that is no longer configured do not count."""
        mine = [i for i in issuer.state.intents if i.awaited and i.provider in self._providers]
        return {s.name: sum(i.series == s.name for i in mine) for s in issuer.settings.series}

    def start(self, issuer: Issuer) -> None:
        """Start work on every intent for which something is to be done, if this replica has claimed it or its claim has expired."""
        state = self._keyring.state
        if state is None:
            return
        self._forget(issuer)
        by_name = {s.name: s for s in issuer.settings.series}
        for intent in issuer.state.intents:
            series = by_name.get(intent.series)
            if intent.provider not in self._providers or (intent.awaited and (intent.made_time or series is None)):
                continue
            if intent.intent_id in self._tasks or self._backoff.waits(intent.intent_id):
                continue
            if not self.has_room:
                return
            if intent.claimed_by == self._sync.replica_id or intent.claim_expire_time <= issuer.now:
                task = asyncio.create_task(self._advance(intent, series, state.deployment_id))
                self._tasks[intent.intent_id] = task
                task.add_done_callback(partial(self._done, intent.intent_id))

    @property
    def has_room(self) -> bool:
        """Whether work on another intent may start. More at once would only fill the queues of the providers."""
        return len(self._tasks) < _AT_ONCE

    def _forget(self, issuer: Issuer) -> None:
        """Forget why keys could not be created, once none of those intents is awaited any more."""
        stuck = self._stuck.get(issuer.name, set())
        stuck &= {i.intent_id for i in issuer.state.intents if i.awaited and not i.made_time}
        if not stuck and issuer.name not in self._bounded:
            self.failing.pop(issuer.name, None)
        self._bounded.discard(issuer.name)  # `record` says so again, where it is still so.

    def _done(self, intent_id: str, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(intent_id, None)
        self._on_progress()

    async def publish(self, issuer: Issuer) -> bool:
        """Publish the keys that have been created. Return whether there were any.

        An issuer's first keys are published together, because only they are ready at once.
        """
        made = [i for i in issuer.state.intents if i.awaited and i.made_time and not self._blocked(i.provider)]
        if not made:
            return False
        first = issuer.state.first_publish_time is None
        wanted = sum(QUEUE_LENGTH for s in issuer.settings.series if s.create)
        if first and len(made) < wanted and issuer.now < made[0].create_time + _FIRST_SET_PATIENCE:
            return False
        at_once = first and not issuer.settings.migrating
        ordinals: dict[str, int] = {}
        keys: list[Key] = []
        for intent in made:
            last = max((k.ordinal for k in issuer.state.keys if k.series == intent.series), default=0)
            ordinals[intent.series] = ordinals.get(intent.series, last) + 1
            keys.append(_key_of(intent, ordinals[intent.series], issuer, at_once=at_once))
        done = [_published(i, k) for i, k in zip(made, keys, strict=True)]
        if await self._store.publish(issuer.state, keys, done):
            for key in keys:
                await self._events.published(key)
                warn_of_protection(issuer.settings, [*issuer.state.keys, *keys], key)
        return True

    async def aclose(self) -> None:
        """Stop. The intents of keys on their way stay in the store."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _advance(self, intent: Intent, series: SeriesSettings | None, deployment_id: str) -> None:
        name = intent.intent_id
        new = name in self._new
        self._new.discard(name)
        try:
            pause = await self._making.advance(intent, series, deployment_id, new=new)
        except SealwrightError as error:
            self._failed(intent, error)
        except StoreUnavailableError:
            log.warning("an intent cannot be written, because the store cannot be reached; it will be tried again")
        except Exception:
            log.exception("creating a key failed")
            self._failed(intent, InternalError("creating a key failed"))
        else:
            if pause is not None:
                self._backoff.pause(name, pause.total_seconds())
                return
            self._backoff.succeeded(name)
            self._stuck.get(intent.issuer, set()).discard(name)

    def _failed(self, intent: Intent, error: SealwrightError) -> None:
        reason = describe_failure(error)
        if not intent.awaited:
            self._backoff.pause(intent.intent_id, self._making.pause(intent).total_seconds())
            log.info("intent %s: the search for its key failed: %s", intent.intent_id, reason)
            return
        self._backoff.failed(intent.intent_id)
        self._stuck.setdefault(intent.issuer, set()).add(intent.intent_id)
        self._say(intent.issuer, f"a key of series {intent.series} could not be created: {reason}")

    def _say(self, issuer: str, problem: str) -> None:
        """Log why keys of an issuer are not created, once for each reason."""
        if self.failing.get(issuer) != problem:
            log.warning("issuer %s: %s", issuer, problem)
        self.failing[issuer] = problem


def warn_of_protection(settings: IssuerSettings, keys: Sequence[Key], new: Key) -> None:
    """Log that a key whose protection is known now cannot replace the key that signs normally."""
    first = next((s.name for s in settings.series if s.algorithm == new.algorithm), None)
    normal = max((k for k in keys if k.series == first), key=lambda k: k.ordinal, default=new)
    if choice.level(new) < choice.level(normal):
        log.warning(
            "issuer %s: keys of series %s are kept in %s, and do not replace keys that are kept in %s (series %s)",
            settings.name,
            new.series,
            new.protection,
            normal.protection,
            normal.series,
        )


def _published(intent: Intent, key: Key) -> Intent:
    """Return the intent of a published key. A key that was found by its tags is watched: a second one would be an alarm."""
    watched = intent.outcome == Outcome.FOUND
    return replace(intent, kid=key.kid, close_time=None if watched else key.publish_time)


def _key_of(intent: Intent, ordinal: int, issuer: Issuer, *, at_once: bool) -> Key:
    if intent.uri is None:
        raise ValueError("the intent does not have a key yet")
    return Key(
        kid=key_id(intent.public_key, intent.uri),
        issuer=issuer.name,
        series=intent.series,
        ordinal=ordinal,
        algorithm=intent.algorithm,
        provider=intent.provider,
        uri=intent.uri,
        public_key=intent.public_key,
        publish_time=issuer.now,
        ready_time=issuer.now if at_once else None,
        protection=intent.protection,
    )


def describe_failure(error: SealwrightError) -> str:
    """Return what a log may say about an error of a KMS: its reason, and the name of the provider."""
    provider = error.metadata.get("provider")
    return f"{error.reason} (provider {provider})" if provider else error.reason
