"""One intent, from its record to a key that may be published, or to its end.

The KMS is asked at most once to create the key of an intent, unless it refuses. What it answers is written at once, and from then
on the service asks for that very key. If the answer is lost, the key is searched for by its tags. "Denied" and "not visible yet" do
not mean that there is no key.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from sealwright import metrics
from sealwright.errors import (
    InternalError,
    ProviderAccessDeniedError,
    ProviderKeyDisabledError,
    ProviderKeyLostError,
    ProviderKeyMissingError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    SealwrightError,
)
from sealwright.issuer_settings import SeriesSettings
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import KeyFormatError, load_public_key
from sealwright.keys.keyring import Keyring
from sealwright.keys.ports import Intent, KeyStore, Outcome, StoreUnavailableError
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.trial import try_key
from sealwright.kms.guard import GuardedProvider, NotAskedError, ProviderFaultError
from sealwright.provider import KeyDescription, KeySpec, Protection

log = logging.getLogger(__name__)

TAG_DEPLOYMENT: Final = "sealwright:deployment"
TAG_INTENT: Final = "sealwright:intent"
TAG_ISSUER: Final = "sealwright:issuer"
TAG_SERIES: Final = "sealwright:series"

SEARCH: Final = timedelta(hours=24)
"""How long a key is searched for whose creation had no clear outcome. AWS KMS documents delays of up to five minutes."""
GONE: Final = timedelta(minutes=15)
"""How long a key that was created may be invisible or unusable until another one is made."""
_LONGEST_PAUSE: Final = timedelta(hours=1)
_SHORTEST_PAUSE: Final = timedelta(seconds=1)
_CLAIM_FACTOR: Final = 3
"""A claim lasts this many times `manage_timeout`: for finding or creating the key, for trying it, and for the store."""
_CONTENTION_TRIES: Final = 50
_UNCLEAR: Final = (ProviderUnavailableError, ProviderTimeoutError, ProviderFaultError, InternalError)
"""After these errors a key may exist. Others say that the KMS, or our own side, refused."""


class KeyMaking:
    """Moves intents on, one pass at a time."""

    def __init__(
        self, *, store: KeyStore, keyring: Keyring, sync: ReplicaSync, providers: Mapping[str, GuardedProvider]
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._sync = sync
        self._providers = providers
        self._uris: dict[str, str] = {}

    async def advance(
        self, intent: Intent, series: SeriesSettings | None, deployment_id: str, *, new: bool
    ) -> timedelta | None:
        """Take one pass over an intent.

        Args:
            intent: As it is in the store.
            series: Its series; None: the configuration does not have it any more, so that only a search is possible.
            deployment_id: For the tags.
            new: This replica has just recorded the intent.

        Returns:
            The pause until the next pass, where nothing failed and something remains to be done.

        Raises:
            SealwrightError: The KMS refuses or does not answer, or the key cannot be used yet. The intent stays open.
            StoreUnavailableError: The store cannot be read or written.
        """
        asks = intent.awaited and not intent.uri and (new or intent.asked_time is None)
        claimed = intent if new else await self._claim(intent, asks=asks)
        if claimed is None:
            return None
        tags = {TAG_DEPLOYMENT: deployment_id, TAG_INTENT: intent.intent_id}
        if not claimed.awaited:
            return await self._search_late(claimed, tags)
        if series is None:
            return None
        if claimed.uri:
            await self._finish(claimed, claimed.uri, series)
        elif asks:
            await self._create(claimed, series, tags)
        else:
            return await self._search(claimed, series, tags)
        return None

    def claim(self, provider: str) -> timedelta:
        """Return how long a claim to an intent lasts."""
        return timedelta(seconds=_CLAIM_FACTOR * self._providers[provider].manage_timeout)

    def pause(self, intent: Intent) -> timedelta:
        """Return the pause between two searches for the key of an intent that is not awaited: a quarter of its age."""
        return min(max(self._age(intent) / 4, _SHORTEST_PAUSE), _LONGEST_PAUSE)

    async def _claim(self, intent: Intent, *, asks: bool) -> Intent | None:
        """Claim an intent, and note that the KMS is about to be asked. Return None if another replica was quicker."""
        now = self._keyring.now()
        until = now + self.claim(intent.provider) + (timedelta() if intent.awaited else self.pause(intent))
        changes: dict[str, Any] = {"claimed_by": self._sync.replica_id, "claim_expire_time": until}
        uri = self._uris.get(intent.intent_id)
        if uri is not None:  # The store could not be written when the KMS answered.
            changes["uri"] = uri
        elif asks:
            changes["asked_time"] = now
        claimed = await self._keep(intent, **changes)
        if claimed is not None:
            self._uris.pop(intent.intent_id, None)
        return claimed

    async def _create(self, intent: Intent, series: SeriesSettings, tags: Mapping[str, str]) -> None:
        provider = self._providers[intent.provider]
        known = intent

        async def created(uri: str) -> None:
            nonlocal known
            self._uris[intent.intent_id] = uri
            try:
                kept = await self._keep(known, uri=uri)
            except StoreUnavailableError:
                log.warning("a key was created, but the store cannot be written; it will be tried again")
                return
            self._uris.pop(intent.intent_id, None)
            if kept is None:
                log.error("intent %s: another replica took it over while this one created a key", intent.intent_id)
            known = kept or known

        spec = KeySpec(
            algorithm=ALGORITHMS[intent.algorithm],
            rsa_bits=series.rsa_bits,
            protection=series.protection,
            tags={**tags, TAG_ISSUER: intent.issuer, TAG_SERIES: series.name},
            created=created,
        )
        try:
            found = await provider.create(spec, timeout=provider.manage_timeout)
        except SealwrightError as error:
            unclear = isinstance(error, _UNCLEAR) and not isinstance(error, NotAskedError)
            if not (unclear or known.uri or intent.intent_id in self._uris):
                await self._keep(known, asked_time=None)
            raise
        await self._finish(known, found.uri, series, found)

    async def _finish(
        self, intent: Intent, uri: str, series: SeriesSettings, found: KeyDescription | None = None
    ) -> None:
        """Describe and try a key that the KMS said it has created. Its answer shows that the key was not imported."""
        provider = self._providers[intent.provider]
        try:
            found = found or await provider.describe(uri, timeout=provider.manage_timeout)
            if found.uri != uri:
                raise ProviderUnavailableError("the KMS described another key than the one that it has created")
            await self._check(found, intent, series)
        except (ProviderKeyMissingError, ProviderKeyDisabledError) as error:
            if isinstance(error, ProviderKeyLostError) or self._age(intent) > GONE:
                await self._abandon(intent, "the key that the KMS has created cannot be used")
            raise
        await self._made(intent, found)

    async def _check(self, found: KeyDescription, intent: Intent, series: SeriesSettings) -> None:
        check_key(found, intent.algorithm, series.protection)
        await try_key(self._providers[intent.provider], found, ALGORITHMS[intent.algorithm])

    async def _made(self, intent: Intent, found: KeyDescription, outcome: str | None = None) -> None:
        times = {"made_time": self._keyring.now(), "outcome": outcome}
        known = {"public_key": found.public_key, "protection": found.protection.value}
        await self._keep(intent, uri=found.uri, **known, **times)

    async def _search(self, intent: Intent, series: SeriesSettings, tags: Mapping[str, str]) -> timedelta | None:
        """Search for a key whose creation had no clear outcome, and adopt it if it is the only one and fits."""
        provider = self._providers[intent.provider]
        patient = self._age(intent) <= timedelta(seconds=provider.manage_timeout)
        try:
            uris = await _find(provider, tags)
        except ProviderUnsupportedError:
            await self._alarm(intent, Outcome.FOREIGN)
            return None
        except ProviderAccessDeniedError:
            if not patient:
                await self._abandon(intent, "the KMS denies to search for keys by their tags")
            raise
        if not uris:
            if patient:
                return self.pause(intent)
            await self._abandon(intent, "its creation had no clear outcome, and no such key has turned up so far")
            return None
        if len(uris) > 1:
            await self._alarm(intent, Outcome.SEVERAL)
            return None
        await self._adopt(intent, uris[0], series, tags)
        return None

    async def _adopt(self, intent: Intent, uri: str, series: SeriesSettings, tags: Mapping[str, str]) -> None:
        provider = self._providers[intent.provider]
        try:
            found = await provider.describe(uri, timeout=provider.manage_timeout)
            if not found.imported:
                await self._check(found, intent, series)
        except (ProviderKeyMissingError, ProviderKeyDisabledError):
            if self._age(intent) > GONE:
                await self._abandon(intent, "the key that was found cannot be used")
            raise
        except ProviderUnsupportedError:
            await self._alarm(intent, Outcome.FOREIGN)
            return
        if found.imported or found.uri != uri:
            await self._alarm(intent, Outcome.FOREIGN)
        elif await _find(provider, tags) != [uri]:  # Meanwhile a second one may have become visible.
            await self._alarm(intent, Outcome.SEVERAL)
        else:
            log.info("intent %s: its key was found again", intent.intent_id)
            await self._made(intent, found, Outcome.FOUND)

    async def _search_late(self, intent: Intent, tags: Mapping[str, str]) -> timedelta | None:
        """Search for a key that another intent has replaced, or for a second one beside a key that was found."""
        over = self._age(intent) > SEARCH
        try:
            outcome = await self._settle(intent, tags)
        except SealwrightError:
            if not over:
                raise
            outcome = Outcome.UNKNOWN
            log.warning(
                "intent %s: what became of its key is not known; `sealwright keys orphans` lists it", intent.intent_id
            )
        if outcome in {Outcome.SEVERAL, Outcome.FOREIGN}:
            await self._alarm(intent, outcome)
        elif outcome is not None or over:
            await self._keep(
                intent, close_time=self._keyring.now(), outcome=outcome or intent.outcome or Outcome.ABSENT
            )
        else:
            return self.pause(intent)
        return None

    async def _settle(self, intent: Intent, tags: Mapping[str, str]) -> Outcome | None:
        provider = self._providers[intent.provider]
        try:
            uris = sorted({*await _find(provider, tags), *([intent.uri] if intent.uri else [])})
        except ProviderUnsupportedError:
            return Outcome.FOREIGN
        if len(uris) > 1:
            return Outcome.SEVERAL
        if not uris or intent.kid:
            return None
        return await self._discard(intent, uris[0])

    async def _discard(self, intent: Intent, uri: str) -> Outcome:
        """Schedule the deletion of a key that turned up late. It was never published, and its intent is in this store."""
        provider = self._providers[intent.provider]
        try:
            found = await provider.describe(uri, timeout=provider.manage_timeout)
        except ProviderUnsupportedError:
            return Outcome.FOREIGN
        except ProviderKeyLostError:
            return Outcome.ABSENT
        if found.imported:
            return Outcome.FOREIGN
        await provider.schedule_deletion(uri, timeout=provider.manage_timeout)
        log.warning("intent %s: its key turned up late; its deletion is scheduled", intent.intent_id)
        return Outcome.DELETED

    async def _abandon(self, intent: Intent, reason: str) -> None:
        """Let another intent take the place of this one. What turns up for this one is not used."""
        log.warning(
            "issuer %s: %s; another key of series %s is created, and the search for this one goes on (intent %s)",
            intent.issuer,
            reason,
            intent.series,
            intent.intent_id,
        )
        await self._keep(intent, abandon_time=self._keyring.now())

    async def _alarm(self, intent: Intent, outcome: Outcome) -> None:
        """End an intent whose tags are on keys that cannot all be ours. None of them is used, and none is deleted."""
        metrics.KEY_ALARMS.labels(intent.provider).inc()
        what = "several keys have" if outcome is Outcome.SEVERAL else "a key that the service did not create has"
        log.critical(
            "ALARM: provider %s: %s the tags of intent %s of issuer %s, series %s. None is used and none is deleted. "
            "`sealwright keys orphans` lists them",
            intent.provider,
            what,
            intent.intent_id,
            intent.issuer,
            intent.series,
        )
        now = self._keyring.now()
        kept = intent.abandon_time if intent.kid else intent.abandon_time or now
        await self._keep(intent, abandon_time=kept, close_time=now, outcome=outcome)

    def _age(self, intent: Intent) -> timedelta:
        return self._keyring.now() - (intent.asked_time or intent.create_time)

    async def _keep(self, old: Intent, **changes: Any) -> Intent | None:
        """Write an intent unless another replica has changed it. Other writes to the issuer may come in between.

        Returns:
            The intent as it was written; None: another replica was quicker.
        """
        new = replace(old, **changes)
        for _ in range(_CONTENTION_TRIES):
            await self._sync.refresh()
            issuer = self._keyring.find(old.issuer)
            if issuer is None or old not in issuer.state.intents:
                return None
            if await self._store.change_intent(issuer.state, new):
                return new
        return None


async def _find(provider: GuardedProvider, tags: Mapping[str, str]) -> Sequence[str]:
    return sorted(set(await provider.find(tags, timeout=provider.manage_timeout)))


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
