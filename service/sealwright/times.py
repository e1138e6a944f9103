"""Constants of time that several packages need, and durations as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""The epoch of NumericDate (RFC 7519 §2) and of POSIX time."""
SECOND: Final = timedelta(seconds=1)
MINUTE: Final = timedelta(minutes=1)

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION: Final = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_LONGEST: Final = timedelta(days=3650)
"""A limit, because the sum of a time and a few durations must not exceed the year 9999."""


def parse_duration(value: Any) -> Any:
    """Turn `"30d"`, `"10m"`, `"1s"` or `"500ms"` into a timedelta.

    Raises:
        ValueError: The value is anything else, or longer than ten years.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a duration such as "30d", "12h", "10m", "1s" or "500ms"')
    duration = timedelta(milliseconds=int(match[1]) * round(_UNITS[match[2]] * 1000))
    if duration > _LONGEST:
        raise ValueError(f"must be at most {_LONGEST.days}d")
    return duration
