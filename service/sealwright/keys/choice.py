"""Which keys of an issuer may sign with an algorithm, best first, and why others may not. Pure.

Fall-back never goes to a lower protection level than that of the key that signs normally: a KMS that fails must not turn keys in an
HSM into keys in software, and neither must somebody who makes it fail. A level that is not known never helps a key to sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from sealwright.keys import lifecycle
from sealwright.keys.lifecycle import Key
from sealwright.provider import Protection

LOWER_PROTECTION: Final = "LOWER_PROTECTION"
"""Why a series does not sign: its key is not protected as well as the one that signs normally."""
UNKNOWN_PROTECTION: Final = "UNKNOWN_PROTECTION"
"""Likewise: how well its key or the one that signs normally is protected is not known yet (`keys/levels.py`)."""
NO_ACTIVE_KEY: Final = "NO_ACTIVE_KEY"
"""Likewise: none of its keys may sign now."""
NOT_SETTLED: Final = "NOT_SETTLED"
"""Likewise: verifiers that look seldom do not have its key yet, and have that of another series."""

_LEVELS: Final[dict[str, int]] = {Protection.SOFTWARE.value: 0, Protection.EXTERNAL.value: 1, Protection.HSM.value: 2}
_HIGHEST: Final = max(_LEVELS.values())


def level(key: Key) -> int:
    """Return how well a private key is protected; a greater number is better. What is not known counts as software."""
    return level_of(key.protection)


def level_of(protection: str | None) -> int:
    """Return the same of a protection."""
    return _LEVELS.get(protection or "", 0)


def normal(keys: Iterable[Key], now: datetime, order: Sequence[str]) -> Key | None:
    """Return the key by whose protection others are judged; None: there is none yet, and each key may sign.

    It is of the first series that has ever had a ready key: its active key, or else its newest one. A series that has just been
    added in front does not count before its first key is ready.

    Args:
        keys: All keys of the issuer, revoked ones too.
        now: The time of the signature.
        order: Names of the series of one algorithm, in order of preference.
    """
    keys = list(keys)
    for name in order:
        been = [k for k in keys if k.series == name and k.ready_time is not None and k.ready_time <= now]
        if been:
            return lifecycle.active(been, name, now) or max(been, key=lambda k: k.ordinal)
    return None


def strong(keys: Iterable[Key], now: datetime, order: Sequence[str]) -> list[Key]:
    """Return the keys that are protected well enough to sign, whatever else keeps them from it. See `normal`."""
    keys = list(keys)
    judge = normal(keys, now, order)
    return [k for k in keys if k.series in order and (judge is None or objection(k, judge) is None)]


def objection(key: Key, judge: Key) -> str | None:
    """Return why a key must not sign in place of the normal one; None: it may.

    A level that is not known is taken for the highest in the normal key, and for the lowest in any other.
    """
    if key.kid == judge.kid:
        return None
    if judge.protection is None:
        return None if level(key) == _HIGHEST else UNKNOWN_PROTECTION
    if level(key) >= level(judge):
        return None
    return UNKNOWN_PROTECTION if key.protection is None else LOWER_PROTECTION
