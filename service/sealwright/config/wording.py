"""The wording of problems: pydantic's errors in the terms of the configuration file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Final

from pydantic_core import ErrorDetails

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TEXTS: Final[Mapping[str, str]] = {
    "extra_forbidden": "unknown key",
    "missing": "must be given",
    "string_type": "must be text",
    "string_unicode": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "dict_type": "must be a table",
    "model_type": "must be a table",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length} characters",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have at most {max_length} entries",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}
"""Texts by pydantic's type of error. They may use the values of the error's context."""


def path_of(location: tuple[int | str, ...]) -> str:
    """Return a path such as `issuers[0].url`. Keys that TOML would quote are quoted."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if _BARE_KEY.fullmatch(part) else json.dumps(part))
    return text


def describe(error: ErrorDetails, *prefix: str) -> str:
    """Return a problem with its path. It never contains the wrong value, because that may be a secret in the wrong place."""
    known = _TEXTS.get(error["type"])
    text = known.format(**error.get("ctx", {})) if known else error["msg"].removeprefix("Value error, ")
    return f"{path_of((*prefix, *error['loc']))}: {text}"
