"""Notes how well keys are protected whose protection the store does not know: those of versions that did not note it.

Until it is known, such a key is not used in place of another one, and only keys with the highest level are used in its place
(`keys/choice.py`). The KMS is asked once for each key, and the store keeps the answer. Replicas of an older version may publish
more such keys while an upgrade is rolling, so this never ends.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import (
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderUnsupportedError,
    SealwrightError,
)
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys import choice
from sealwright.keys.backoff import Backoff
from sealwright.keys.creation import describe_failure, warn_of_protection
from sealwright.keys.issuer import Issuer
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Key, queued
from sealwright.keys.ports import IssuerState, KeyStore, StoreUnavailableError
from sealwright.keys.replica import ReplicaSync
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 5.0
_TIMEOUT: Final = 3.0
_TRIES: Final = 5


class KeyLevels:
    """Asks the KMS where it keeps the keys of which the store does not know it."""

    def __init__(
        self,
        *,
        store: KeyStore,
        keyring: Keyring,
        sync: ReplicaSync,
        providers: Mapping[str, GuardedProvider],
        clock: Clock,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._sync = sync
        self._providers = providers
        self._pauses = Backoff(clock)
        self._refused: set[str] = set()
        self._complete: dict[str, IssuerState] = {}

    async def run(self) -> None:
        """Look for such keys until cancelled. No error ends the loop."""
        while True:
            try:
                await self.fill()
            except StoreUnavailableError:
                pass  # `ReplicaSync` says so
            except Exception:
                log.exception("noting the protection of keys failed; it will be tried again")
            await asyncio.sleep(_LOOK_SECONDS)

    async def fill(self) -> None:
        """Note the protection of all keys that the KMS describes now.

        Raises:
            StoreUnavailableError: The store cannot be read or written.
        """
        for settings in self._keyring.issuers:
            issuer = self._keyring.find(settings.name)
            if issuer is None or issuer.stale is not None or self._complete.get(issuer.name) is issuer.state:
                continue
            unknown = [k for k in _judged(issuer) if k.protection is None and k.kid not in self._refused]
            if not unknown:
                self._complete[issuer.name] = issuer.state
                continue
            due = [k for k in unknown if k.provider in self._providers and not self._pauses.waits(k.kid)]
            answers = zip(due, await asyncio.gather(*map(self._ask, due)), strict=True)
            await self._note(issuer.settings, {key.kid: found for key, found in answers if found is not None})

    async def _ask(self, key: Key) -> str | None:
        """Return where the KMS keeps a key; None: it does not say so now."""
        try:
            found = await self._providers[key.provider].describe(key.uri, timeout=_TIMEOUT)
            if found.uri != key.uri:
                raise ProviderUnsupportedError("the KMS described another key")
        except SealwrightError as error:
            if not self._pauses.failing(key.kid):
                reason = describe_failure(error)
                log.warning("issuer %s: the protection of key %s is not known: %s", key.issuer, key.kid, reason)
            self._pauses.failed(key.kid)
            lasting = isinstance(error, ProviderKeyDisabledError | ProviderKeyMissingError | ProviderUnsupportedError)
            if lasting and not queued(key):
                self._refused.add(key.kid)  # until the next start
            return None
        self._pauses.succeeded(key.kid)
        return found.protection.value

    async def _note(self, settings: IssuerSettings, found: Mapping[str, str]) -> None:
        for _ in range(_TRIES if found else 0):
            await self._sync.refresh()
            issuer = self._keyring.find(settings.name)
            keys = issuer.state.keys if issuer else ()
            new = [replace(k, protection=found[k.kid]) for k in keys if k.protection is None and k.kid in found]
            if issuer is None or not new:
                return
            if await self._store.change_keys(issuer.state, new):
                await self._sync.refresh()
                for key in new:
                    log.info(
                        "issuer %s, series %s, key %s: kept in %s", key.issuer, key.series, key.kid, key.protection
                    )
                    warn_of_protection(settings, issuer.changed(new), key)
                return


def _judged(issuer: Issuer) -> list[Key]:
    """Return the keys whose protection matters: those that may sign, and those by which others are judged."""
    keys, series = issuer.state.keys, issuer.settings.series
    names = {s.name for s in series}
    found = {k.kid: k for k in keys if k.series in names and queued(k)}
    for algorithm in dict.fromkeys(s.algorithm for s in series):
        normal = choice.normal(keys, issuer.now, [s.name for s in series if s.algorithm == algorithm])
        if normal is not None:
            found[normal.kid] = normal
    return list(found.values())
