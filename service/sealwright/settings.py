"""What the settings of all packages are made of: strict models, durations as text, addresses.

Each package defines its own settings on top of this, and `config.py` composes them.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"(\d{1,9})(ms|s|m|h|d)")

NAME_PATTERN: Final = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
"""Names of issuers, series and providers: they stand in resource names, tags and metrics."""


def parse_duration(value: Any) -> Any:
    """Turn `"30d"`, `"10m"`, `"1s"` or `"500ms"` into a timedelta; anything else is left for pydantic to refuse."""
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a duration such as "30d", "12h", "10m", "1s" or "500ms"')
    return timedelta(milliseconds=int(match[1]) * round(_UNITS[match[2]] * 1000))


def _positive(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("must be longer than nothing")
    return value


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""A duration, zero allowed."""

PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
"""A duration that is longer than nothing."""


class Settings(BaseModel):
    """Base of all settings: nothing unknown, nothing coerced, nothing changed once read."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)
