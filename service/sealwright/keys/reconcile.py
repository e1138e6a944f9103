"""From an intent to a key in the KMS: created, or found again after a crash, and never left behind.

An intent is in the store before the KMS is asked, and the key carries its id as a tag. Whoever takes an intent over, be it
this replica after an error or another after a crash, looks for such a key first.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from sealwright.errors import ProviderError, ProviderUnsupportedError, SealwrightError
from sealwright.jose.algorithms import ALGORITHMS
from sealwright.jose.jwk import KeyFormatError, load_public_key
from sealwright.keys.ports import Intent
from sealwright.keys.settings import IssuerSettings, SeriesSettings
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeyDescription, KeySpec, Protection

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
            found = await self._find(provider, intent, series.protection)
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
        made = await provider.create(spec, timeout=provider.manage_timeout)
        return check_key(made, intent.algorithm, series.protection)

    async def _find(
        self, provider: GuardedProvider, intent: Intent, protection: Protection | None
    ) -> KeyDescription | None:
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
        found = await provider.describe(uris[0], timeout=provider.manage_timeout)
        return check_key(found, intent.algorithm, protection)


def check_key(found: KeyDescription, algorithm: str, protection: Protection | None) -> KeyDescription:
    """Return the key if it is what was asked for (RFC 8725 §3.1).

    Args:
        found: The key, as its KMS describes it.
        algorithm: The JWS algorithm that it must sign with.
        protection: Where the private key must be kept; None: anywhere.

    Raises:
        ProviderUnsupportedError: The KMS or the public key does not fit the algorithm, or the key is kept elsewhere.
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
    """Return what may be logged of an error of the KMS."""
    provider = error.metadata.get("provider", "") if isinstance(error, ProviderError) else ""
    return f"{error.reason} ({provider})" if provider else error.reason
