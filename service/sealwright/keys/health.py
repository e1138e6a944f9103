"""What callers meet: whether each key has signed in the last seconds, from real calls or, where there are none, from probes.

A key is in trouble while its last signature failed for a reason of the KMS, or while its provider does not answer. Every failure is
forgotten by the next success: of a caller's signature, or of a probe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import ProviderError, SealwrightError
from sealwright.keys.issuer import SigningKey
from sealwright.keys.keyring import Keyring
from sealwright.keys.ports import StoreUnavailableError
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

PROBE_SECONDS: Final = 5.0
"""A provider, or a key in trouble, of which nothing was heard for so long is probed."""
_PROBE_TIMEOUT: Final = 3.0
_OF_THE_PROVIDER: Final = frozenset({"PROVIDER_UNAVAILABLE", "PROVIDER_TIMEOUT", "PROVIDER_THROTTLED"})
"""Failures that the guard judges, because it knows whether the call had enough time: hasty callers must not change health."""
_READ_SECONDS: Final = 1.0
"""How long a call may wait for the store before it is told that the KMS refuses its key."""


class KeyHealth:
    """Collects what signatures and probes say about keys."""

    def __init__(
        self,
        keyring: Keyring,
        providers: Mapping[str, GuardedProvider],
        clock: Clock,
        refresh: Callable[[], Awaitable[None]],
    ) -> None:
        """Prepare.

        Args:
            keyring: The keys.
            providers: Their KMSs, by name.
            clock: The clock.
            refresh: Brings the keyring up to date with the store, or raises StoreUnavailableError.
        """
        self._keyring = keyring
        self._providers = providers
        self._clock = clock
        self._refresh = refresh
        self._trouble: dict[str, tuple[str, float]] = {}
        self._looked_up: set[str] = set()
        self._looking_up = asyncio.Lock()

    def signed(self, key: SigningKey) -> None:
        """Note that a key has signed."""
        if self._trouble and self._trouble.pop(key.kid, None) is not None:
            self._looked_up.discard(key.kid)
            log.info("key %s of provider %s signs again", key.kid, key.provider)

    async def revoked(self, keys: Sequence[SigningKey]) -> bool:
        """Return whether one of the keys that a KMS has just refused was revoked or withdrawn.

        A KMS may hear of a revocation by another replica before this one reads of it. So the first call that is refused reads the
        store, while the others wait for it. It is not read again before the key has signed.
        """
        kids = {k.kid for k in keys}
        async with self._looking_up:
            if not kids <= self._looked_up and not any(self._is_gone(k) for k in keys):
                with contextlib.suppress(StoreUnavailableError, TimeoutError):
                    async with asyncio.timeout(_READ_SECONDS):
                        await self._refresh()
                self._looked_up |= kids
        gone = {k.kid for k in keys if self._is_gone(k)}
        self._forget(gone)
        return bool(gone)

    def _is_gone(self, key: SigningKey) -> bool:
        issuer = self._keyring.find(key.record.issuer)
        return issuer is None or issuer.trusted(key.kid) is None

    def _forget(self, kids: AbstractSet[str]) -> None:
        for kid in kids:
            self._trouble.pop(kid, None)
        self._looked_up -= kids

    def failed(self, key: SigningKey, reason: str) -> None:
        """Note that a key did not sign. The log has one line for each new reason, and not for each failure."""
        before = self._trouble.get(key.kid)
        if before is None or before[0] != reason:
            if self._is_gone(key):
                return
            log.warning("key %s of provider %s does not sign: %s", key.kid, key.provider, reason)
        self._trouble[key.kid] = (reason, self._clock.elapsed())

    def trouble(self, key: SigningKey) -> str | None:
        """Return why callers cannot have a signature by a key now; None: as far as is known, they can."""
        provider = self._providers.get(key.provider)
        if provider is None:
            return f"provider {key.provider} is not configured"
        if provider.trouble is not None:
            return f"provider {key.provider} does not answer ({provider.trouble})"
        known = self._trouble.get(key.kid)
        if known is None or known[0] in _OF_THE_PROVIDER:
            return None
        return f"provider {key.provider} does not sign with the key ({known[0]})"

    @property
    def calm(self) -> bool:
        """Whether no key and no provider is in trouble."""
        return not self._trouble and all(p.trouble is None for p in self._providers.values())

    def providers(self) -> dict[str, bool]:
        """Return which providers answer, by name."""
        return {name: provider.trouble is None for name, provider in self._providers.items()}

    async def run(self) -> None:
        """Probe until cancelled."""
        while True:
            try:
                await self.probe()
            except Exception:
                log.exception("a probe failed unexpectedly")
            await asyncio.sleep(PROBE_SECONDS)

    async def probe(self) -> None:
        """Ask the providers and keys of which nothing was heard lately."""
        silent = [p for p in self._providers.values() if self._clock.elapsed() - p.heard >= PROBE_SECONDS]
        await asyncio.gather(*(_ask(p) for p in silent))
        if self._trouble:
            signers = {key.kid: key for key in self._signers()}
            self._forget(self._trouble.keys() - signers)
            due = [kid for kid, (_, time) in self._trouble.items() if self._clock.elapsed() - time >= PROBE_SECONDS]
            await asyncio.gather(*(self._look_at(signers[kid]) for kid in due))

    def _signers(self) -> list[SigningKey]:
        issuers = (self._keyring.find(s.name) for s in self._keyring.issuers)
        return [key for issuer in issuers if issuer is not None for key in issuer.possible_signers()]

    async def _look_at(self, key: SigningKey) -> None:
        """Forget a key's trouble if the KMS describes it as usable."""
        provider = self._providers.get(key.provider)
        if provider is None:
            return
        try:
            await provider.describe(key.uri, timeout=_PROBE_TIMEOUT)
        except SealwrightError as error:
            self.failed(key, error.reason)
        else:
            self.signed(key)


async def _ask(provider: GuardedProvider) -> None:
    try:
        await provider.check(timeout=_PROBE_TIMEOUT)
    except ProviderError as error:
        log.debug("provider %s: a probe failed: %s", provider.name, error.reason)
