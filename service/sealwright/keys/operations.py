"""Rotation by hand, and how keys are shown to people."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from sealwright.errors import (
    InternalError,
    RequestInvalidError,
    RotationTooEarlyError,
    StateTooOldError,
    Violation,
)
from sealwright.keys import lifecycle
from sealwright.keys.changes import KeyChanges
from sealwright.keys.issuer import RETRY_SECONDS, Issuer
from sealwright.keys.lifecycle import Key, KeyState
from sealwright.keys.ports import StoreUnavailableError
from sealwright.keys.witness import StoreRefusedError

log = logging.getLogger(__name__)

CONTENTION_TRIES: Final = 50
"""How often a change is tried again because another writer was quicker."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A key and its state, as people see them.

    Attributes:
        key: The key.
        state: Its state.
        settle_time: When verifiers have it that keep a set whatever it says.
    """

    key: Key
    state: KeyState
    settle_time: datetime


@dataclass(frozen=True, slots=True)
class HandRotation:
    """What a rotation by hand did, or would do.

    Attributes:
        keys: The queued and newly retired keys of those series, as they are afterwards.
        warnings: About verifiers that may refuse the new keys.
    """

    keys: Sequence[ShownKey]
    warnings: Sequence[str]


def shown(keys: Sequence[Key], among: Sequence[Key], issuer: Issuer) -> list[ShownKey]:
    """Return keys with their states.

    Args:
        keys: The keys to show.
        among: All keys of their issuer.
        issuer: Their issuer, at the instant that the states are derived for.
    """
    return [ShownKey(k, lifecycle.state(k, among, issuer.now), issuer.settle_time(k)) for k in keys]


def needs_store(operation: Callable[P, Awaitable[T]]) -> Callable[P, Awaitable[T]]:
    """Turn an outage of the store into an error for the caller. The change may have been written, if only the answer was lost."""

    @wraps(operation)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await operation(*args, **kwargs)
        except StoreRefusedError as error:
            raise StateTooOldError(str(error), retry_after=RETRY_SECONDS) from None
        except StoreUnavailableError as error:
            log.warning("keys cannot be changed: %s", error)
            text = "keys cannot be changed, because the store cannot be read or written"
            raise StateTooOldError(text, retry_after=RETRY_SECONDS) from None

    return guarded


class KeyOperations:
    """Rotation by hand."""

    def __init__(self, changes: KeyChanges, wake: Callable[[], None]) -> None:
        """Prepare.

        Args:
            changes: Writes keys.
            wake: Makes the rotator look at once whether a step is due.
        """
        self._changes = changes
        self._wake = wake

    @needs_store
    async def rotate(
        self, name: str, *, series: str | None = None, expected_kid: str | None = None, dry_run: bool = False
    ) -> HandRotation:
        """Retire the active key of a series, or of all series of an issuer, in favour of its standby.

        Args:
            name: Name of the issuer.
            series: Name of a series; None: all.
            expected_kid: Retire only this key, and only if it is active. So a repeated call changes nothing.
            dry_run: Return what would happen, and change nothing.

        Raises:
            RotationTooEarlyError: A standby may not sign yet. Nothing was changed.
            KeyNotFoundError: The issuer does not have the expected key.
            RequestInvalidError: The issuer does not have the series.
        """
        for _ in range(CONTENTION_TRIES):
            issuer = await self._changes.current(name)
            names = _series_names(issuer, series)
            if expected_kid is not None:
                issuer.key(expected_kid)
            heads = [head for s in names if (head := _replaceable_head(issuer, s, expected_kid)) is not None]
            retired = [replace(head, retire_time=issuer.now) for head in heads]
            if dry_run or not retired:
                return _rotation(issuer, issuer.changed(retired), names, retired)
            if await self._changes.write(issuer, retired):
                self._wake()
                after = await self._changes.current(name)
                return _rotation(after, after.state.keys, names, retired)
        raise InternalError("other writers changed the issuer's keys too often; try again")


def _series_names(issuer: Issuer, series: str | None) -> list[str]:
    names = [s.name for s in issuer.settings.series if series in {None, s.name}]
    if not names:
        raise RequestInvalidError([Violation("series", "the issuer does not have a series of this name")])
    return names


def _replaceable_head(issuer: Issuer, series: str, expected_kid: str | None) -> Key | None:
    """Return the key that a rotation of the series retires; None if another key than the expected one is active.

    Raises:
        RotationTooEarlyError: No key could take over.
    """
    head = issuer.active(series)
    if expected_kid is not None and (head is None or head.kid != expected_kid):
        return None
    others = [k for k in lifecycle.queue(issuer.state.keys, series) if head is None or k.kid != head.kid]
    if head is not None and any(lifecycle.ready(k, issuer.now) for k in others):
        return head
    times = [k.ready_time for k in others if k.ready_time is not None]
    metadata = {"series": series}
    wait = None
    if times:
        earliest = min(times)
        metadata["earliestTime"] = earliest.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        wait = (earliest - issuer.now).total_seconds()
    raise RotationTooEarlyError(
        "the standby may not sign yet, because not every verifier can have it", metadata=metadata, retry_after=wait
    )


def _rotation(issuer: Issuer, keys: Sequence[Key], series: Sequence[str], retired: Sequence[Key]) -> HandRotation:
    kids = {k.kid for k in retired}
    concerned = [k for k in keys if k.series in series and (lifecycle.queued(k) or k.kid in kids)]
    heirs = [lifecycle.active(keys, k.series, issuer.now) for k in retired]
    warnings = [_unsettled(issuer, heir) for heir in heirs if heir and issuer.settle_time(heir) > issuer.now]
    return HandRotation(shown(concerned, keys, issuer), warnings)


def _unsettled(issuer: Issuer, key: Key) -> str:
    since, until = (
        t.isoformat(timespec="seconds").replace("+00:00", "Z") for t in (key.publish_time, issuer.settle_time(key))
    )
    return (
        f"key {key.kid} has been published since {since}. Verifiers that keep a JWK Set longer than Cache-Control permits, such as "
        "ASP.NET Core, may not have it, and refuse the first token or all tokens for up to 5 minutes until they look again. "
        f"From {until} on all that look every {issuer.verifier_refresh} have it"
    )
