"""When time alone makes something due for an issuer, so that rotation need not look at all keys every second. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sealwright.keys.lifecycle import Key, Limits
from sealwright.keys.steps import SeriesPolicy, deletable, rotation_time


def next_time(keys: Sequence[Key], policies: Sequence[SeriesPolicy], limits: Limits) -> datetime | None:
    """Return when time alone makes the next step due; None: it makes none due. Steps that are due now are `next_steps`.

    Args:
        keys: All keys of the issuer, from one read of the store.
        policies: The configured series of the issuer.
        limits: The issuer's limits, from the same read.
    """
    times = [due for policy in policies if (due := rotation_time(keys, policy, limits)) is not None]
    after = {p.name: p.destroy_after for p in policies}
    for key in keys:
        if key.withdraw_time is None or key.destroy_time:
            continue
        if not (key.disable_time or key.revoke_time):
            times.append(key.withdraw_time)
        if key.destroy_due_time is not None and deletable(key, after):
            times.append(key.destroy_due_time)
    return min(times, default=None)
