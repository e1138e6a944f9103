"""Keys that carry the tags of this deployment in a KMS, and that its store does not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sealwright.errors import SealwrightError
from sealwright.keys.making import TAG_DEPLOYMENT
from sealwright.keys.ports import StoreState
from sealwright.kms.guard import GuardedProvider


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphans:
    """What a search for orphans found.

    Attributes:
        uris: Key URIs by provider; an empty list: that provider has no orphans.
        failed: Why a provider could not be searched, by provider.
        searched_for: Intents whose key the service is still searching for. An orphan may be one of these.
    """

    uris: Mapping[str, Sequence[str]]
    failed: Mapping[str, str]
    searched_for: Sequence[str] = field(default=())


async def find_orphans(
    state: StoreState, providers: Mapping[str, GuardedProvider], before: str | None = None
) -> Orphans:
    """Search all providers. A provider that fails does not hide what others have.

    Keys whose deletion is scheduled are not listed.

    Args:
        state: What the store knows.
        providers: By configured name.
        before: The deployment whose keys were published from here before, if it is another one: its store is lost.
    """
    deployments = sorted({state.deployment_id, before or state.deployment_id})
    intents = [i for issuer in state.issuers.values() for i in issuer.intents]
    known = {k.uri for issuer in state.issuers.values() for k in issuer.keys}
    known |= {i.uri for i in intents if i.awaited and i.uri}
    uris: dict[str, Sequence[str]] = {}
    failed: dict[str, str] = {}
    for name, provider in providers.items():
        try:
            found = {
                uri
                for deployment in deployments
                for uri in await provider.find({TAG_DEPLOYMENT: deployment}, timeout=provider.manage_timeout)
            }
        except SealwrightError as error:
            failed[name] = error.reason
        else:
            uris[name] = sorted(found - known)
    searched = [i.intent_id for i in intents if not i.kid and not i.uri]
    return Orphans(uris=uris, failed=failed, searched_for=searched)
