"""Revocation: takes keys out of use and out of the JWK Set, permanently."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from sealwright.errors import InternalError
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys import choice, lifecycle
from sealwright.keys.changes import KeyChanges
from sealwright.keys.disabling import KeyDisabling
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.operations import CONTENTION_TRIES, ShownKey, needs_store, shown
from sealwright.keys.ports import IssuerState, KeyStore, Replica, StoreState
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.settings import TimingSettings
from sealwright.keys.steps import apply_step, emergency
from sealwright.keys.token_counts import minute_of
from sealwright.times import SECOND

_CATCH_UP_READS: Final = 3
_LAST_KNOWN_GOOD: Final = timedelta(hours=1)
"""How much longer ASP.NET Core accepts a key after it has read a set without it (`UseLastKnownGoodConfiguration`)."""


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
        verifier_cache_until: Until then caches and verifiers that obey `Cache-Control` may accept the keys' tokens.
        verifier_refresh_until: Until then verifiers that do not obey it may accept them.
        stale_replicas: Replicas that have not read the revocation yet.
        warnings: What else an operator should know.
    """

    keys: Sequence[ShownKey]
    live_tokens: int
    verifier_cache_until: datetime
    verifier_refresh_until: datetime
    stale_replicas: Sequence[str] = ()
    warnings: Sequence[str] = ()


class KeyRevocation:
    """Revokes keys.

    What matters most comes first: the commit. Disabling the keys in the KMS may take minutes for many keys, and goes on without the
    caller, or in the next process.
    """

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
        if isinstance(scope, AllKeysOf):
            # Shielded, so that a caller who leaves does not end it between the commit and what follows it.
            return await asyncio.shield(asyncio.ensure_future(self._revoke_all(scope, issuers, dry_run=dry_run)))
        return await self._revoke_one(scope, dry_run=dry_run)

    async def _revoke_one(self, scope: OneKey, *, dry_run: bool) -> Revocation:
        for _ in range(CONTENTION_TRIES):
            issuer = await self._changes.current(scope.issuer)
            plan = _plan(issuer.settings, issuer.state, [issuer.key(scope.kid).record], issuer.now)
            if dry_run:
                return await self._shown([plan], warnings=plan.warnings)
            if not plan.new:
                return await self._repeated([plan])
            if await self._changes.write(issuer, [*plan.new, *plan.raised]):
                return await self._finish([plan], plan.warnings)
        raise InternalError("other writers changed the issuer's keys too often; try again")

    async def _revoke_all(self, scope: AllKeysOf, issuers: Sequence[str], *, dry_run: bool) -> Revocation:
        """Revoke the keys of a provider: all in one commit, and everything that takes longer after it."""
        await self._changes.refresh()
        settings = {name: self._keyring.fresh(name).settings for name in issuers}
        if dry_run:
            now = {name: self._keyring.fresh(name) for name in issuers}
            plans = [_plan(i.settings, i.state, _of(i.state, scope), i.now) for i in now.values()]
            return await self._shown(plans, warnings=[w for p in plans for w in p.warnings])
        plans = []

        def decide(state: StoreState) -> Sequence[Key]:
            states = [(settings[name], state.issuers[name]) for name in issuers if name in state.issuers]
            plans[:] = [_plan(s, one, _of(one, scope), state.time) for s, one in states]
            return [k for p in plans for k in (*p.new, *p.raised)]

        before = await self._changes.write_all(scope.provider, decide)
        if not any(p.new for p in plans):
            return await self._repeated(plans)
        warnings = [w for p in plans for w in p.warnings]
        if scope.provider not in before.blocked:
            warnings.append(
                f"no key is created at provider {scope.provider} until `sealwright keys unblock {scope.provider}`"
            )
        return await self._finish(plans, warnings)

    async def _finish(self, plans: Sequence[_Plan], warnings: Sequence[str]) -> Revocation:
        """Let all replicas see the revocation, disable the keys in the KMS, and find out who still has to read it."""
        await self._changes.refresh()
        self._wake()
        failures = await self._disabling.disable_all([k for p in plans for k in p.new])
        stale = await self._stale_replicas(max(p.limits.max_serve_age for p in plans))
        now = self._keyring.now()
        done = await self._shown(plans, warnings=[*warnings, *failures])
        return self._with_stale(done, plans, stale, served=now)

    async def _repeated(self, plans: Sequence[_Plan]) -> Revocation:
        """Return how far an earlier revocation has come, and disable the keys in the KMS again, where that may have failed."""
        failures = await self._disabling.disable_all([k for p in plans for k in p.gone])
        done = await self._shown(plans, warnings=failures)
        stale = await self._stale_replicas(max((p.limits.max_serve_age for p in plans), default=timedelta()))
        return self._with_stale(done, plans, stale, served=None)

    def _with_stale(
        self, done: Revocation, plans: Sequence[_Plan], stale: Sequence[str], *, served: datetime | None
    ) -> Revocation:
        """Add what the replicas mean that may still serve the keys.

        A replica cannot have confirmed an older state after the revocation, so it serves that for `max_serve_age` at most.

        Args:
            done: What was revoked.
            plans: Of the issuers.
            stale: The replicas.
            served: When all others had stopped serving the keys; None: at the time of the revocation.
        """
        until, stubborn = [done.verifier_cache_until], [done.verifier_refresh_until]
        for plan in plans:
            for key in plan.gone:
                last = served or key.revoke_time or self._keyring.now()
                if stale:
                    last += plan.limits.max_serve_age
                until.append(last + plan.limits.cache_age)
                stubborn += [until[-1], self._forgotten(last, plan.limits)]
        return replace(
            done, verifier_cache_until=max(until), verifier_refresh_until=max(stubborn), stale_replicas=stale
        )

    def _forgotten(self, served: datetime, limits: Limits) -> datetime:
        """Return when the last verifier has forgotten a key that was last served at a time, whatever it was told."""
        return served + limits.settling(self._timing.verifier_refresh) + _LAST_KNOWN_GOOD

    async def _shown(self, plans: Sequence[_Plan], *, warnings: Sequence[str]) -> Revocation:
        now = self._keyring.now()
        until = [(k.revoke_time or now) + p.limits.cache_age for p in plans for k in p.gone]
        stubborn = [self._forgotten(k.revoke_time or now, p.limits) for p in plans for k in p.gone]
        kids = [k.kid for p in plans for k in p.gone]
        return Revocation(
            keys=[k for p in plans for k in shown(p.gone, p.after, self._keyring.at(p.name))],
            live_tokens=await self._store.live_tokens(kids, minute_of(now)),
            verifier_cache_until=max(until, default=now),
            verifier_refresh_until=max([*until, *stubborn], default=now),
            warnings=warnings,
        )

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
            await asyncio.sleep(min(self._timing.refresh_interval, SECOND).total_seconds())
        return [r.replica_id for r in behind]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a revocation does to one issuer.

    Attributes:
        name: Of the issuer.
        limits: Of the issuer.
        gone: The revoked keys, those among them that were revoked before, too.
        new: Those that are revoked now.
        raised: Standbys that sign at once in their place.
        after: All keys of the issuer afterwards.
        warnings: About the standbys.
    """

    name: str
    limits: Limits
    gone: Sequence[Key]
    new: Sequence[Key]
    raised: Sequence[Key]
    after: Sequence[Key]
    warnings: Sequence[str]


def _of(state: IssuerState, scope: AllKeysOf) -> list[Key]:
    return [k for k in state.keys if k.provider == scope.provider]


def _plan(settings: IssuerSettings, state: IssuerState, meant: Sequence[Key], now: datetime) -> _Plan:
    gone = [k if k.revoke_time else replace(k, revoke_time=now) for k in meant]
    new = [k for k, old in zip(gone, meant, strict=True) if k != old]
    after = _changed(state.keys, gone)
    raised, warnings = _successors(settings, after, now) if new else ([], [])
    return _Plan(state.name, state.limits, gone, new, raised, _changed(after, raised), warnings)


def _changed(keys: Sequence[Key], new: Sequence[Key]) -> list[Key]:
    by_kid = {k.kid: k for k in new}
    return [by_kid.get(k.kid, k) for k in keys]


def _successors(settings: IssuerSettings, keys: Sequence[Key], now: datetime) -> tuple[list[Key], list[str]]:
    """Return the standbys that must be made ready at once because no key of their algorithm may sign, and warnings about them.

    Args:
        settings: Of the issuer.
        keys: Its keys after the revocation.
        now: The time of the writer.
    """
    raised: list[Key] = []
    warnings: list[str] = []
    for algorithm in dict.fromkeys(s.algorithm for s in settings.series):
        names = [s.name for s in settings.series if s.algorithm == algorithm]
        strong = choice.strong(keys, now, names)
        if lifecycle.signers(strong, now, names):
            continue
        step = emergency(strong, now, names)
        if step is None:
            warnings.append(
                f"issuer {settings.name}: no {algorithm} key is left: nothing is signed with {algorithm} until a new key is ready"
                + (
                    ". Keys with a lower protection level do not replace it"
                    if lifecycle.signers(keys, now, names)
                    else ""
                )
            )
            continue
        raised.append(apply_step(next(k for k in keys if k.kid == step.kid), step, now))
        warnings.append(
            f"issuer {settings.name}: no {algorithm} key was ready: a young standby signs at once. Verifiers that cached the "
            "JWK Set before the standby was published refuse its tokens until they fetch the set again"
        )
    return raised, warnings
