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
    """

    key: Key
    state: KeyState


def shown(keys: Sequence[Key], among: Sequence[Key], now: datetime) -> list[ShownKey]:
    """Return keys with their states.

    Args:
        keys: The keys to show.
        among: All keys of their issuer.
        now: The time that the states are derived for.
    """
    return [ShownKey(k, lifecycle.state(k, among, now)) for k in keys]


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
    ) -> list[ShownKey]:
        """Retire the active key of a series, or of all series of an issuer, in favour of its standby.

        Args:
            name: Name of the issuer.
            series: Name of a series; None: all.
            expected_kid: Retire only this key, and only if it is active. So a repeated call changes nothing.
            dry_run: Return what would happen, and change nothing.

        Returns:
            The queued and newly retired keys of those series, as they are afterwards.

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
                return _concerned(issuer.changed(retired), names, retired, issuer.now)
            if await self._changes.write(issuer, retired):
                await self._changes.refresh()
                self._wake()
                after = await self._changes.current(name)
                return _concerned(after.state.keys, names, retired, after.now)
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


def _concerned(keys: Sequence[Key], series: Sequence[str], retired: Sequence[Key], now: datetime) -> list[ShownKey]:
    kids = {k.kid for k in retired}
    return shown([k for k in keys if k.series in series and (lifecycle.queued(k) or k.kid in kids)], keys, now)
