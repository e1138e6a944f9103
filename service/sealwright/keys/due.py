"""When time alone makes something due for an issuer, so that rotation need not look at all keys every second. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sealwright.keys.lifecycle import Key, Limits, SeriesPolicy, rotation_time


def next_time(keys: Sequence[Key], policies: Sequence[SeriesPolicy], limits: Limits) -> datetime | None:
    """Return when time alone makes the next step due; None: it makes none due. Steps that are due now are `next_steps`.

    Args:
        keys: All keys of the issuer, from one read of the store.
        policies: The configured series of the issuer.
        limits: The issuer's limits, from the same read.
    """
    times = [due for policy in policies if (due := rotation_time(keys, policy, limits)) is not None]
    for policy in policies:
        if policy.destroy_after is not None:
            gone = [k.withdraw_time for k in keys if k.series == policy.name and k.withdraw_time and not k.destroy_time]
            times += [time + policy.destroy_after for time in gone]
    return min(times, default=None)
