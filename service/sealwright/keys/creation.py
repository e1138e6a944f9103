"""From what a series lacks to a published key: an intent, a key in the KMS, a row in the store.

The intent is in the store before the KMS is asked, and the key carries the intent's id as a tag. A replica that takes an intent
over, after an error or after a crash, first looks for a key with that tag. So a key is never left behind.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import InternalError, ProviderUnsupportedError, SealwrightError
from sealwright.ids import uuid7
from sealwright.issuer_settings import SeriesSettings
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import KeyFormatError, key_id, load_public_key
from sealwright.keys.backoff import Backoff
from sealwright.keys.issuer import Issuer
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import QUEUE_LENGTH, Create, Key
from sealwright.keys.ports import Intent, KeyEvents, KeyStore, StoreUnavailableError
from sealwright.keys.replica import ReplicaSync
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeyDescription, KeySpec, Protection

log = logging.getLogger(__name__)

TAG_DEPLOYMENT: Final = "sealwright:deployment"
TAG_INTENT: Final = "sealwright:intent"
TAG_ISSUER: Final = "sealwright:issuer"
TAG_SERIES: Final = "sealwright:series"

_CLAIM_FACTOR: Final = 3
"""A claim lasts this many times `manage_timeout`: for looking for the key, for creating it, and for the store."""
_FIRST_SET_PATIENCE: Final = timedelta(seconds=15)
"""How long an issuer's first JWK Set waits for slow keys once it has some."""
_CONTENTION_TRIES: Final = 50


class KeyCreation:
    """Creates keys and publishes them.

    Attributes:
        failing: Why the last try to create a key failed, by issuer.
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
        self._backoff = Backoff(clock)
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._new: set[str] = set()
        self.failing: dict[str, str] = {}

    async def record(self, issuer: Issuer, step: Create) -> None:
        """Record intents for the keys that a series lacks, unless another replica has just done so."""
        series = next(s for s in issuer.settings.series if s.name == step.series)
        intents = [
            Intent(
                intent_id=uuid7(),
                issuer=issuer.name,
                series=series.name,
                algorithm=series.algorithm,
                provider=series.provider,
                create_time=issuer.now,
                claimed_by=self._sync.replica_id,
                claim_expire_time=issuer.now + self._claim(series.provider),
            )
            for _ in range(step.count)
        ]
        if await self._store.add_intents(issuer.state, intents):
            self._new |= {i.intent_id for i in intents}

    def open_intents(self, issuer: Issuer) -> dict[str, int]:
        """Count the keys on their way by series. Intents of a provider that is no longer configured do not count."""
        mine = [i for i in issuer.state.intents if i.provider in self._providers]
        return {s.name: sum(i.series == s.name for i in mine) for s in issuer.settings.series}

    def start(self, issuer: Issuer) -> None:
        """Start work on every intent without a key that this replica has claimed, or whose claim has expired."""
        by_name = {s.name: s for s in issuer.settings.series}
        for intent in issuer.state.intents:
            series = by_name.get(intent.series)
            if series is None or intent.provider not in self._providers or intent.uri:
                continue
            if intent.intent_id in self._tasks or self._backoff.waits(intent.intent_id):
                continue
            if intent.claimed_by == self._sync.replica_id or intent.claim_expire_time <= issuer.now:
                task = asyncio.create_task(self._create(intent, series))
                self._tasks[intent.intent_id] = task
                task.add_done_callback(partial(self._done, intent.intent_id))

    def _done(self, intent_id: str, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(intent_id, None)
        self._on_progress()

    async def publish(self, issuer: Issuer) -> bool:
        """Publish the keys that have been created. Return whether there were any.

        An issuer's first keys are published together, because only they are ready at once.
        """
        made = [i for i in issuer.state.intents if i.uri]
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
        done = [replace(i, kid=k.kid) for i, k in zip(made, keys, strict=True)]
        if await self._store.publish(issuer.state, keys, done):
            for key in keys:
                await self._events.published(key)
        return True

    async def aclose(self) -> None:
        """Stop. The intents of keys on their way stay in the store."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _create(self, intent: Intent, series: SeriesSettings) -> None:
        state = self._keyring.state
        if state is None:
            return
        new = intent.intent_id in self._new
        self._new.discard(intent.intent_id)
        try:
            claimed = intent
            if not new:
                until = self._keyring.now() + self._claim(intent.provider)
                claimed = replace(intent, claimed_by=self._sync.replica_id, claim_expire_time=until)
                if not await self._write(intent, claimed):
                    return
            made = await self._make(claimed, series, state.deployment_id, new=new)
            await self._write(claimed, replace(claimed, uri=made.uri, public_key=made.public_key))
            self._backoff.succeeded(intent.intent_id)
            self.failing.pop(intent.issuer, None)
        except SealwrightError as error:
            self._failed(intent, error)
        except StoreUnavailableError:
            log.warning("a key was created, but the store cannot be reached; its intent will find the key again")
        except Exception:
            log.exception("creating a key failed")
            self._failed(intent, InternalError("creating a key failed"))

    async def _make(self, intent: Intent, series: SeriesSettings, deployment_id: str, *, new: bool) -> KeyDescription:
        """Return the key of an intent; create it if there is none.

        Args:
            intent: An intent that this replica has claimed.
            series: Its series.
            deployment_id: For the key's tags.
            new: This replica has just recorded the intent, so there cannot be a key for it yet.

        Raises:
            ProviderError: The KMS refuses or does not answer. The intent stays open.
        """
        provider = self._providers[intent.provider]
        tags = {TAG_DEPLOYMENT: deployment_id, TAG_INTENT: intent.intent_id}
        found = None if new else await _find(provider, intent, tags)
        if found is None:
            spec = KeySpec(
                algorithm=ALGORITHMS[intent.algorithm],
                rsa_bits=series.rsa_bits,
                protection=series.protection,
                tags=tags | {TAG_ISSUER: intent.issuer, TAG_SERIES: series.name},
            )
            found = await provider.create(spec, timeout=provider.manage_timeout)
        return check_key(found, intent.algorithm, series.protection)

    async def _write(self, old: Intent, new: Intent) -> bool:
        """Write an intent unless another replica has changed it. Other writes to the issuer may come in between."""
        for _ in range(_CONTENTION_TRIES):
            await self._sync.refresh()
            issuer = self._keyring.find(old.issuer)
            if issuer is None or old not in issuer.state.intents:
                return False
            if await self._store.change_intent(issuer.state, new):
                return True
        return False

    def _claim(self, provider: str) -> timedelta:
        return timedelta(seconds=_CLAIM_FACTOR * self._providers[provider].manage_timeout)

    def _failed(self, intent: Intent, error: SealwrightError) -> None:
        self._backoff.failed(intent.intent_id)
        reason = describe_failure(error)
        if self.failing.get(intent.issuer) != reason:
            log.warning("issuer %s: a key of series %s could not be created: %s", intent.issuer, intent.series, reason)
        self.failing[intent.issuer] = reason


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
    )


async def _find(provider: GuardedProvider, intent: Intent, tags: Mapping[str, str]) -> KeyDescription | None:
    """Find the key of an intent.

    If there are several, because an answer was lost and the call was repeated, one is kept. The others are scheduled for
    deletion: they were never published, and their intent is in this store.
    """
    uris = sorted(await provider.find(tags, timeout=provider.manage_timeout))
    if not uris:
        return None
    for surplus in uris[1:]:
        log.warning("intent %s has more than one key; the surplus key is scheduled for deletion", intent.intent_id)
        await provider.schedule_deletion(surplus, timeout=provider.manage_timeout)
    log.info("intent %s: its key was found again", intent.intent_id)
    return await provider.describe(uris[0], timeout=provider.manage_timeout)


def check_key(found: KeyDescription, algorithm: str, protection: Protection | None) -> KeyDescription:
    """Return a key if it is what was asked for (RFC 8725 §3.1).

    Args:
        found: What the KMS describes.
        algorithm: The JWS algorithm that the key must sign with.
        protection: Where the private key must be kept; None: anywhere.

    Raises:
        ProviderUnsupportedError: The algorithms or the public key do not fit, or the key is kept elsewhere.
    """
    try:
        public_key = None if found.public_key is None else load_public_key(found.public_key)
        fits = ALGORITHMS[algorithm].fits(public_key)
    except KeyFormatError:
        fits = False
    if not fits or algorithm not in found.algorithms:
        raise ProviderUnsupportedError(f"the key in the KMS cannot sign with {algorithm}")
    if protection not in {None, found.protection}:
        raise ProviderUnsupportedError(
            f"the protection of the key in the KMS is {found.protection}; the series asks for {protection}"
        )
    return found


def describe_failure(error: SealwrightError) -> str:
    """Return what a log may say about an error of a KMS: its reason, and the name of the provider."""
    provider = error.metadata.get("provider")
    return f"{error.reason} (provider {provider})" if provider else error.reason
