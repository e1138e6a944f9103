"""The base of all settings: a strict model, and types for names, paths and durations.

Each package defines its own settings with these, and `config` composes them.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from sealwright.times import parse_duration

NAME_PATTERN: Final = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
"""Names of issuers, series and providers. Resource names, KMS tags and metrics contain them."""


def check_name(value: str) -> str:
    """Return the name if it is valid.

    Raises:
        ValueError: The name does not match `NAME_PATTERN`.
    """
    if not re.fullmatch(NAME_PATTERN, value):
        raise ValueError(
            "must consist of at most 63 lower-case letters, digits and hyphens, begin with a letter and not end with a hyphen"
        )
    return value


def check_path(value: str) -> str:
    """Return the path of a file or directory if the operating system can accept it.

    Raises:
        ValueError: The path is empty or contains NUL.
    """
    if not value or "\0" in value:
        raise ValueError("must be a path, without NUL")
    return value


def _positive(value: timedelta) -> timedelta:
    if not value:
        raise ValueError("must be greater than zero")
    return value


Name = Annotated[str, AfterValidator(check_name)]
"""Name of an issuer, a series or a provider."""

FilePath = Annotated[str, AfterValidator(check_path)]
"""Path of a file or directory."""

Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
"""A duration; zero is allowed."""

PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
"""A duration greater than zero."""


class Settings(BaseModel):
    """Base of all settings. It refuses unknown keys, does not convert types, and cannot be changed.

    A rule between fields is a validator of the last of these fields, not of the model. Pydantic skips a model's validators when
    any field is wrong, but the configuration must report every problem at once. For the same reason it validates defaults.
    """

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, hide_input_in_errors=True, validate_default=True
    )
