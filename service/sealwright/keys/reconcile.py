"""From an intent to a key in the KMS: created, or found again after a crash, and never left behind.

An intent is in the store before the KMS is asked, and the key carries its id as a tag. Whoever takes an intent over, be it
this replica after an error or another after a crash, looks for such a key first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from sealwright.errors import ProviderError, ProviderUnsupportedError, SealwrightError
from sealwright.issuer_settings import IssuerSettings, SeriesSettings
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import KeyFormatError, load_public_key
from sealwright.keys.ports import Intent
from sealwright.kms.guard import GuardedProvider
from sealwright.kms.provider import KeyDescription, KeySpec

log = logging.getLogger(__name__)

TAG_DEPLOYMENT: Final = "sealwright:deployment"
TAG_INTENT: Final = "sealwright:intent"
TAG_ISSUER: Final = "sealwright:issuer"
TAG_SERIES: Final = "sealwright:series"


class KeyMaker:
    """Turns intents into keys."""

    def __init__(self, providers: Mapping[str, GuardedProvider], deployment_id: str) -> None:
        self._providers = providers
        self._deployment_id = deployment_id

    async def make(
        self, intent: Intent, issuer: IssuerSettings, series: SeriesSettings, *, first: bool
    ) -> KeyDescription:
        """Return the key of an intent, creating it where there is none.

        Args:
            intent: An intent that this replica has claimed.
            issuer: Its issuer.
            series: Its series.
            first: It was recorded by this replica just now, so no key can exist for it yet.

        Raises:
            ProviderError: The KMS says no or nothing; the intent stays open.
        """
        provider = self._providers[intent.provider]
        if not first:
            found = await self._find(provider, intent)
            if found is not None:
                return found
        spec = KeySpec(
            algorithm=ALGORITHMS[intent.algorithm],
            rsa_bits=series.rsa_bits,
            protection=series.protection,
            tags={
                TAG_DEPLOYMENT: self._deployment_id,
                TAG_INTENT: intent.intent_id,
                TAG_ISSUER: issuer.name,
                TAG_SERIES: series.name,
            },
        )
        return check_key(await provider.create(spec, timeout=provider.manage_timeout), intent.algorithm)

    async def _find(self, provider: GuardedProvider, intent: Intent) -> KeyDescription | None:
        """Find the key of an intent.

        Of several (an answer was lost, and the call repeated) one is kept and the others are scheduled for deletion: they were
        never published, and their intent is in this store.
        """
        tags = {TAG_DEPLOYMENT: self._deployment_id, TAG_INTENT: intent.intent_id}
        uris = sorted(await provider.find(tags, timeout=provider.manage_timeout))
        if not uris:
            return None
        for surplus in uris[1:]:
            log.warning("intent %s has a second key; it is scheduled for deletion", intent.intent_id)
            await provider.schedule_deletion(surplus, timeout=provider.manage_timeout)
        log.info("intent %s: its key was found again", intent.intent_id)
        return check_key(await provider.describe(uris[0], timeout=provider.manage_timeout), intent.algorithm)


def check_key(found: KeyDescription, algorithm: str) -> KeyDescription:
    """Refuse a key that cannot be what it is wanted for (RFC 8725 §3.1).

    Raises:
        ProviderUnsupportedError: The KMS or the public key does not fit the algorithm.
    """
    try:
        public_key = load_public_key(found.public_key) if found.public_key else None
        fits = ALGORITHMS[algorithm].fits(public_key)
    except KeyFormatError:
        fits = False
    if not fits or algorithm not in found.algorithms:
        raise ProviderUnsupportedError("the key in the KMS cannot sign with that algorithm")
    return found


def describe_failure(error: SealwrightError) -> str:
    """Return what may be logged of an error of the KMS."""
    provider = error.metadata.get("provider", "") if isinstance(error, ProviderError) else ""
    return f"{error.reason} ({provider})" if provider else error.reason
