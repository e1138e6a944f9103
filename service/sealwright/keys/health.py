"""What callers meet: whether each key has signed in the last seconds, from real calls or, where there are none, from probes.

A key is in trouble while its last signature failed for a reason of the KMS, or while its provider does not answer. Every failure is
forgotten by the next success: of a caller's signature, or of a probe.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from sealwright.clock import Clock
from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    SealwrightError,
)
from sealwright.keys.issuer import SigningKey
from sealwright.keys.keyring import Keyring
from sealwright.keys.revocation_check import RevocationCheck
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

PROBE_SECONDS: Final = 5.0
"""A provider, or a key in trouble, of which nothing was heard for so long is probed."""
_PROBE_TIMEOUT: Final = 3.0
_OF_THE_PROVIDER: Final = frozenset({"PROVIDER_UNAVAILABLE", "PROVIDER_TIMEOUT", "PROVIDER_THROTTLED"})
"""Failures that the guard judges, because it knows whether the call had enough time: hasty callers must not change health."""
KEY_ERRORS: Final = (ProviderKeyDisabledError, ProviderKeyMissingError, ProviderAccessDeniedError)
"""Errors of one key: another key of the same provider may still sign, and its revocation may be the cause."""
_OF_THE_KEY: Final = frozenset(error.reason for error in KEY_ERRORS)


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
        self._check = RevocationCheck(keyring, refresh, clock)
        self._trouble: dict[str, tuple[str, float]] = {}
        self._unsure: dict[str, str] = {}

    def signed(self, key: SigningKey) -> None:
        """Note that a key has signed."""
        if self._unsure:
            self._unsure.pop(key.kid, None)
        if self._trouble and self._trouble.pop(key.kid, None) is not None:
            log.info("key %s of provider %s signs again", key.kid, key.provider)

    def failed(self, key: SigningKey, reason: str) -> None:
        """Note that a key did not sign. A key that was revoked is in no trouble.

        The log has one line for each new reason, and not for each failure.
        """
        if reason in _OF_THE_PROVIDER:
            return
        checking = self._check.begin(key, reason) if reason in _OF_THE_KEY else None
        if checking is None:
            self._note(key, reason)
        else:
            self._unsure[key.kid] = reason
            checking.add_done_callback(lambda _: self._checked(key))

    def _checked(self, key: SigningKey) -> None:
        """Note why a key did not sign last, unless it has signed since."""
        reason = self._unsure.pop(key.kid, None)
        if reason is not None:
            self._note(key, reason)

    def _note(self, key: SigningKey, reason: str) -> None:
        before = self._trouble.get(key.kid)
        if before is None or before[0] != reason:
            if self._check.gone(key):
                return
            log.warning("key %s of provider %s does not sign: %s", key.kid, key.provider, reason)
        self._trouble[key.kid] = (reason, self._clock.elapsed())

    async def revoked(self, keys: Sequence[SigningKey]) -> bool:
        """Return whether one of the keys that a KMS has just refused was revoked or withdrawn.

        Args:
            keys: The keys. Each was noted as `failed`.
        """
        checks = [task for k in keys if (task := self._check.pending(k)) is not None]
        if checks:
            await asyncio.wait(checks)
        return any(self._check.gone(k) for k in keys)

    def trouble(self, key: SigningKey) -> str | None:
        """Return why callers cannot have a signature by a key now; None: as far as is known, they can."""
        provider = self._providers.get(key.provider)
        if provider is None:
            return f"provider {key.provider} is not configured"
        if provider.trouble is not None:
            return f"provider {key.provider} does not answer ({provider.trouble})"
        known = self._trouble.get(key.kid)
        return None if known is None else f"provider {key.provider} does not sign with the key ({known[0]})"

    @property
    def calm(self) -> bool:
        """Whether no key and no provider is in trouble."""
        return not self._trouble and all(p.trouble is None for p in self._providers.values())

    def providers(self) -> dict[str, bool]:
        """Return which providers answer, by name."""
        return {name: provider.trouble is None for name, provider in self._providers.items()}

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                try:
                    await self.probe()
                except Exception:
                    log.exception("a probe failed unexpectedly")
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            self._check.stop()

    async def probe(self) -> None:
        """Ask the providers and keys of which nothing was heard lately."""
        silent = [p for p in self._providers.values() if self._clock.elapsed() - p.heard >= PROBE_SECONDS]
        await asyncio.gather(*(_ask(p) for p in silent))
        self._check.prune()
        if self._trouble:
            signers = {key.kid: key for key in self._signers()}
            # A key that is no signer any more was revoked or retired.
            for kid in self._trouble.keys() - signers:
                del self._trouble[kid]
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
