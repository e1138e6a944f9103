"""What the settings of all packages are made of: strict models, durations as text, addresses.

Each package defines its own settings on top of this, and `config.py` composes them.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_LONGEST: Final = timedelta(days=3650)
"""Sums of durations are added to times of day, and those end with the year 9999."""

NAME_PATTERN: Final = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
"""Names of issuers, series and providers: they stand in resource names, tags and metrics."""


def check_name(value: str) -> str:
    """Return the name if it is well formed.

    Raises:
        ValueError: It does not match `NAME_PATTERN`.
    """
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValueError("must be lower-case letters, digits and hyphens, a letter first, 63 characters at the most")
    return value


def check_path(value: str) -> str:
    """Return the path of a file or directory if the operating system could take it.

    Raises:
        ValueError: It could not.
    """
    if not value or "\0" in value:
        raise ValueError("must be a path")
    return value


def parse_duration(value: Any) -> Any:
    """Turn `"30d"`, `"10m"`, `"1s"` or `"500ms"` into a timedelta.

    Raises:
        ValueError: It is anything else, or longer than ten years.
    """
    if isinstance(value, timedelta):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError('must be a duration such as "30d", "12h", "10m", "1s" or "500ms"')
    duration = timedelta(milliseconds=int(match[1]) * round(_UNITS[match[2]] * 1000))
    if duration > _LONGEST:
        raise ValueError(f"must be {_LONGEST.days}d at the most")
    return duration


def _positive(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("must be longer than nothing")
    return value


Name = Annotated[str, AfterValidator(check_name)]
"""Name of an issuer, a series or a provider."""

FilePath = Annotated[str, AfterValidator(check_path)]
"""Path of a file or directory."""

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""A duration, zero allowed."""

PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
"""A duration that is longer than nothing."""


class Settings(BaseModel):
    """Base of all settings: nothing unknown, nothing coerced, nothing changed once read.

    A rule between fields is a validator of the last of them, not of the model, since pydantic leaves those of a model out as
    soon as any field is wrong, and every problem is to be reported at once. Hence defaults are validated too.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, validate_default=True
    )
