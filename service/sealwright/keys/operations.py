"""What people do to keys by hand: rotate and revoke."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from sealwright.errors import (
    InternalError,
    IssuerNotFoundError,
    KeyNotFoundError,
    RequestInvalidError,
    RotationTooEarlyError,
    SealwrightError,
    StateTooOldError,
    Violation,
)
from sealwright.issuer_settings import IssuerSettings
from sealwright.keys import lifecycle
from sealwright.keys.keyring import Keyring
from sealwright.keys.lifecycle import Key
from sealwright.keys.ports import IssuerState, KeyEvents, KeyStore, Replica, StoreUnavailableError
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.rotation import Rotator
from sealwright.keys.settings import TimingSettings
from sealwright.kms.guard import GuardedProvider

log = logging.getLogger(__name__)

_CONTENTION_TRIES: Final = 50
_MINUTE: Final = 60
_DISABLE_SECONDS: Final = 3.0
_CATCH_UP_READS: Final = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocation:
    """What a revocation did, or would do.

    Attributes:
        keys: The keys, as they are after it.
        live_tokens: Estimate of the tokens that die with them.
        verifier_cache_until: Caches and verifiers may accept the keys' tokens until then.
        stale_replicas: Replicas that have not read it yet.
        warnings: What else an operator should know.
    """

    keys: Sequence[Key]
    live_tokens: int
    verifier_cache_until: datetime
    stale_replicas: Sequence[str] = ()
    warnings: Sequence[str] = ()


P = ParamSpec("P")
T = TypeVar("T")


def _without_store(operation: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Say in our words that the store cannot be read or written. What was to be changed may have been, all the same."""

    @wraps(operation)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await operation(*args, **kwargs)
        except StoreUnavailableError as e:
            log.warning("keys cannot be changed: %s", e)
            raise StateTooOldError(
                "the store cannot be read or written, so no key can be changed", retry_after=1
            ) from None

    return guarded


class KeyOperations:
    """Rotation and revocation by hand, written to the store by compare-and-swap like all else."""

    def __init__(
        self,
        *,
        store: KeyStore,
        keyring: Keyring,
        sync: ReplicaSync,
        rotator: Rotator,
        providers: Mapping[str, GuardedProvider],
        timing: TimingSettings,
        events: KeyEvents,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._sync = sync
        self._rotator = rotator
        self._providers = providers
        self._timing = timing
        self._events = events

    @_without_store
    async def rotate(
        self, issuer: str, *, series: str = "", expected_kid: str = "", dry_run: bool = False
    ) -> list[Key]:
        """Retire the active key of a series, or of all series of an issuer, in favour of the one that stands by.

        Args:
            issuer: Name of the issuer.
            series: Name of a series; empty: all.
            expected_kid: Retire this key only, and only if it is active: a repeated call changes nothing.
            dry_run: Say what would happen, and change nothing.

        Returns:
            The queued and newly retired keys of those series, as they are after it.

        Raises:
            RotationTooEarlyError: A standby may not sign yet; nothing was changed.
        """
        for _ in range(_CONTENTION_TRIES):
            settings, state = await self._current(issuer)
            names = self._series(settings, series)
            if expected_kid and all(k.kid != expected_kid for k in state.keys):
                raise KeyNotFoundError("the issuer has no key with the expected kid")
            now = self._keyring.now()
            retired = [
                replace(head, retire_time=now) for name in names if (head := self._head(state, name, expected_kid, now))
            ]
            after = _merged(state.keys, retired)
            if dry_run or not retired:
                return _shown(after, names, retired)
            if await self._store.change_keys(state, retired):
                for key in retired:
                    await self._events.changed(next(k for k in state.keys if k.kid == key.kid), key)
                await self._settle()
                return _shown((await self._current(issuer))[1].keys, names, retired)
        raise InternalError("the issuer's keys are being changed too fast")

    def _head(self, state: IssuerState, series: str, expected_kid: str, now: datetime) -> Key | None:
        """Return the key that a rotation of the series retires.

        Raises:
            RotationTooEarlyError: There is no key that could take over.
        """
        line = lifecycle.queue(state.keys, series)
        head = lifecycle.active(state.keys, series, now)
        if expected_kid and (head is None or head.kid != expected_kid):
            return None
        others = [k for k in line if head is None or k.kid != head.kid]
        if head is not None and any(lifecycle.ready(k, now) for k in others):
            return head
        times = [k.ready_time for k in others if k.ready_time is not None]
        metadata = {"series": series}
        if times:
            metadata["earliestTime"] = min(times).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        wait = (min(times) - now).total_seconds() if times else None
        raise RotationTooEarlyError(
            "the standby may not sign yet: not every verifier can have it", metadata=metadata, retry_after=wait
        )

    @_without_store
    async def revoke(
        self,
        issuer: str,
        *,
        kid: str = "",
        provider: str = "",
        dry_run: bool = False,
    ) -> Revocation:
        """Take keys out of use and out of the JWK Set, for good.

        Args:
            issuer: Name of the issuer.
            kid: One key; or
            provider: all keys of the issuer that the provider's credentials reach.
            dry_run: Say what would happen, and change nothing.
        """
        for _ in range(_CONTENTION_TRIES):
            settings, state = await self._current(issuer)
            meant = [k for k in state.keys if (k.kid == kid if kid else k.provider == provider)]
            if kid and not meant:
                raise KeyNotFoundError("the issuer has no such key")
            now = self._keyring.now()
            gone = [k if k.revoke_time else replace(k, revoke_time=now) for k in meant]
            changed = [k for k in gone if k not in state.keys]
            raised, warnings = self._successors(settings, _merged(state.keys, gone), now)
            live = await self._store.live_tokens([k.kid for k in gone], int(now.timestamp()) // _MINUTE)
            if not changed or dry_run:
                until = (max(k.revoke_time or now for k in gone) if gone else now) + state.limits.cache_age
                said = warnings if changed else []
                return Revocation(keys=gone, live_tokens=live, verifier_cache_until=until, warnings=said)
            if await self._store.change_keys(state, [*changed, *raised]):
                for new in (*changed, *raised):
                    await self._events.changed(next(k for k in state.keys if k.kid == new.kid), new)
                await self._settle()
                warnings += await self._disable(changed)
                stale = await self._stale_replicas(state.limits.max_serve_age)
                until = self._keyring.now() + state.limits.cache_age
                return Revocation(
                    keys=gone,
                    live_tokens=live,
                    verifier_cache_until=until + (state.limits.max_serve_age if stale else timedelta()),
                    stale_replicas=stale,
                    warnings=warnings,
                )
        raise InternalError("the issuer's keys are being changed too fast")

    def _successors(self, settings: IssuerSettings, keys: Sequence[Key], now: datetime) -> tuple[list[Key], list[str]]:
        """Return the standbys that must be made ready at once since no key of their algorithm is, and what to say of it."""
        raised: list[Key] = []
        warnings: list[str] = []
        for algorithm in dict.fromkeys(s.algorithm for s in settings.series):
            names = [s.name for s in settings.series if s.algorithm == algorithm]
            if lifecycle.signers(keys, now, names):
                continue
            step = lifecycle.emergency(keys, now, names)
            if step is not None:
                raised.append(lifecycle.apply_step(next(k for k in keys if k.kid == step.kid), step, now))
                warnings.append(
                    f"no {algorithm} key was ready: a young standby signs at once, and verifiers that cached the JWK Set "
                    "before it was published refuse its tokens until they fetch again"
                )
            else:
                warnings.append(f"no {algorithm} key is left: nothing is signed with it until a new key is ready")
        return raised, warnings

    async def _disable(self, keys: Sequence[Key]) -> list[str]:
        """Disable keys in the KMS: the stop that also binds whoever holds its credentials elsewhere."""
        return [w for w in await asyncio.gather(*(self._disable_one(k) for k in keys)) if w]

    async def _disable_one(self, key: Key) -> str:
        provider = self._providers.get(key.provider)
        try:
            if provider is None:
                raise InternalError("the provider is not configured")
            await provider.disable(key.uri, timeout=_DISABLE_SECONDS)
        except SealwrightError as error:
            return f"key {key.kid} could not be disabled in the KMS ({error.reason}): disable it there"
        return ""

    async def _stale_replicas(self, max_serve_age: timedelta) -> list[str]:
        """Give the other replicas time for a read or two, and name those that have not read the newest revision.

        A replica that nobody has seen for `max_serve_age` neither signs nor serves any more.
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

    async def _settle(self) -> None:
        """Let this replica see what was written, and the rotator follow it up."""
        await self._sync.refresh()
        self._rotator.wake()

    async def _current(self, issuer: str) -> tuple[IssuerSettings, IssuerState]:
        settings = self._keyring.settings.get(issuer)
        if settings is None:
            raise IssuerNotFoundError("no such issuer")
        await self._sync.refresh()
        view = self._keyring.view(issuer)
        self._keyring.require_fresh(view)
        return settings, view.state

    def _series(self, settings: IssuerSettings, series: str) -> list[str]:
        names = [s.name for s in settings.series if series in {"", s.name}]
        if not names:
            raise RequestInvalidError([Violation("series", "the issuer has no series of this name")])
        return names


def _merged(keys: Sequence[Key], changed: Sequence[Key]) -> list[Key]:
    new = {k.kid: k for k in changed}
    return [new.get(k.kid, k) for k in keys]


def _shown(keys: Sequence[Key], series: Sequence[str], retired: Sequence[Key]) -> list[Key]:
    kids = {k.kid for k in retired}
    return [k for k in keys if k.series in series and (lifecycle.queued(k) or k.kid in kids)]
