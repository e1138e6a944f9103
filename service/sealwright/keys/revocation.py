"""Revocation: takes keys out of use and out of the JWK Set, permanently."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import reduce
from typing import Final

from sealwright.errors import InternalError
from sealwright.keys import lifecycle
from sealwright.keys.changes import KeyChanges
from sealwright.keys.disabling import KeyDisabling
from sealwright.keys.issuer import Issuer
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Key
from sealwright.keys.operations import CONTENTION_TRIES, ShownKey, needs_store, shown
from sealwright.keys.ports import KeyStore, Replica
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.settings import TimingSettings
from sealwright.keys.token_counts import minute_of

_CATCH_UP_READS: Final = 3


@dataclass(frozen=True, slots=True)
class OneKey:
    """Revoke one key.

    Attributes:
        issuer: Name of its issuer.
        kid: Its kid.
    """

    issuer: str
    kid: str


@dataclass(frozen=True, slots=True)
class AllKeysOf:
    """Revoke all keys that the credentials of a provider reach, in all issuers.

    Attributes:
        provider: Name of the provider.
    """

    provider: str


Scope = OneKey | AllKeysOf


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What a revocation did, or would do.

    Attributes:
        keys: The revoked keys.
        live_tokens: Estimate of the live tokens that were signed with them.
        verifier_cache_until: Until then caches and verifiers may accept the keys' tokens.
        stale_replicas: Replicas that have not read the revocation yet.
        warnings: What else an operator should know.
    """

    keys: Sequence[ShownKey]
    live_tokens: int
    verifier_cache_until: datetime
    stale_replicas: Sequence[str] = ()
    warnings: Sequence[str] = ()


class KeyRevocation:
    """Revokes keys."""

    def __init__(
        self,
        *,
        store: KeyStore,
        keyring: Keyring,
        sync: ReplicaSync,
        changes: KeyChanges,
        disabling: KeyDisabling,
        timing: TimingSettings,
        wake: Callable[[], None],
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._sync = sync
        self._changes = changes
        self._disabling = disabling
        self._timing = timing
        self._wake = wake

    def issuers_of(self, scope: Scope) -> list[str]:
        """Return the names of the issuers whose keys a revocation reaches.

        Raises:
            StateTooOldError: The store has not been read yet.
        """
        if isinstance(scope, OneKey):
            return [scope.issuer]
        issuers = [self._keyring.at(s.name) for s in self._keyring.issuers]
        return [i.name for i in issuers if any(k.provider == scope.provider for k in i.state.keys)]

    @needs_store
    async def revoke(self, scope: Scope, issuers: Sequence[str], *, dry_run: bool = False) -> Revocation:
        """Revoke keys, disable them in the KMS, and let the next keys of their issuers sign.

        Args:
            scope: Which keys.
            issuers: The issuers of the keys, as `issuers_of` has found them; at least one.
            dry_run: Return what would happen, and change nothing.

        Raises:
            IssuerNotFoundError: The issuer does not exist.
            KeyNotFoundError: The issuer does not have the key.
            StateTooOldError: The store cannot be used, or the clock of this machine is wrong.
        """
        done = [await self._revoke(name, scope, dry_run=dry_run) for name in issuers]
        return reduce(_sum, done)

    async def _revoke(self, name: str, scope: Scope, *, dry_run: bool) -> Revocation:
        for _ in range(CONTENTION_TRIES):
            issuer = await self._changes.current(name)
            meant = _meant(issuer, scope)
            gone = [k if k.revoke_time else replace(k, revoke_time=issuer.now) for k in meant]
            new = [k for k, old in zip(gone, meant, strict=True) if k != old]
            raised, warnings = _successors(issuer, issuer.changed(gone))
            live = await self._store.live_tokens([k.kid for k in gone], minute_of(issuer.now))
            plan = Revocation(
                keys=shown(gone, issuer.changed(gone), issuer.now),
                live_tokens=live,
                verifier_cache_until=max((k.revoke_time or issuer.now for k in gone), default=issuer.now)
                + issuer.limits.cache_age,
                warnings=warnings if new else [],
            )
            if dry_run:
                return plan
            if not new:  # An earlier call may have failed to disable them.
                return replace(plan, warnings=await self._disable(gone))
            if await self._changes.write(issuer, [*new, *raised]):
                await self._changes.refresh()
                self._wake()
                return await self._finish(issuer, new, plan)
        raise InternalError("other writers changed the issuer's keys too often; try again")

    async def _finish(self, issuer: Issuer, gone: Sequence[Key], plan: Revocation) -> Revocation:
        """Disable the keys in the KMS, and find out who still has to read the revocation."""
        failures = await self._disable(gone)
        stale = await self._stale_replicas(issuer.limits.max_serve_age)
        until = self._keyring.now() + issuer.limits.cache_age
        return replace(
            plan,
            verifier_cache_until=until + (issuer.limits.max_serve_age if stale else timedelta()),
            stale_replicas=stale,
            warnings=[*plan.warnings, *failures],
        )

    async def _disable(self, keys: Sequence[Key]) -> list[str]:
        """Disable keys in the KMS, which also stops anyone else who has its credentials. Return a warning for each that failed."""
        warnings = await asyncio.gather(*(self._disabling.disable(k) for k in keys if not k.destroy_time))
        return [w for w in warnings if w is not None]

    async def _stale_replicas(self, max_serve_age: timedelta) -> list[str]:
        """Wait for a read or two of the other replicas, and return those that have not read the newest revision.

        A replica that was not seen for `max_serve_age` neither signs nor serves any longer.
        """
        state = self._keyring.state
        behind: list[Replica] = []
        for attempt in range(_CATCH_UP_READS):
            rows = await self._store.replicas(self._keyring.now() - max_serve_age)
            behind = [
                r for r in rows if r.replica_id != self._sync.replica_id and state and r.revision < state.revision
            ]
            if not behind or attempt == _CATCH_UP_READS - 1:
                break
            await asyncio.sleep(self._timing.refresh_interval.total_seconds())
        return [r.replica_id for r in behind]


def _meant(issuer: Issuer, scope: Scope) -> list[Key]:
    if isinstance(scope, AllKeysOf):
        return [k for k in issuer.state.keys if k.provider == scope.provider]
    return [issuer.key(scope.kid).record]


def _successors(issuer: Issuer, keys: Sequence[Key]) -> tuple[list[Key], list[str]]:
    """Return the standbys that must be made ready at once because no key of their algorithm is ready, and warnings about them.

    Args:
        issuer: The issuer before the revocation.
        keys: Its keys after it.
    """
    raised: list[Key] = []
    warnings: list[str] = []
    for algorithm in dict.fromkeys(s.algorithm for s in issuer.settings.series):
        names = [s.name for s in issuer.settings.series if s.algorithm == algorithm]
        if lifecycle.signers(keys, issuer.now, names):
            continue
        step = lifecycle.emergency(keys, issuer.now, names)
        if step is None:
            warnings.append(f"no {algorithm} key is left: nothing is signed with {algorithm} until a new key is ready")
            continue
        raised.append(lifecycle.apply_step(next(k for k in keys if k.kid == step.kid), step, issuer.now))
        warnings.append(
            f"no {algorithm} key was ready: a young standby signs at once. Verifiers that cached the JWK Set before the standby "
            "was published refuse its tokens until they fetch the set again"
        )
    return raised, warnings


def _sum(a: Revocation, b: Revocation) -> Revocation:
    return Revocation(
        keys=[*a.keys, *b.keys],
        live_tokens=a.live_tokens + b.live_tokens,
        verifier_cache_until=max(a.verifier_cache_until, b.verifier_cache_until),
        stale_replicas=sorted({*a.stale_replicas, *b.stale_replicas}),
        warnings=[*a.warnings, *b.warnings],
    )
