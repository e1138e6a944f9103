"""The patterns of grants: `*` matches one whole segment between slashes, `**` the rest or anything."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

ANY_SEGMENT: Final = "*"
ANYTHING: Final = "**"
_DOTS: Final = r"(?:\.|%2[eE]){1,2}(?:/|\Z)"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern of a grant. It matches whole values only, case-sensitively.

    Attributes:
        text: The pattern as it was written.

    Raises:
        ValueError: The pattern is empty, contains an asterisk that is not a whole segment, or `**` before its end.
    """

    text: str
    _expression: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.text:
            raise ValueError("must not be empty")
        *before, last = self.text.split("/")
        if ANYTHING in before:
            raise ValueError("`**` is allowed only at the end")
        if any("*" in s and s not in {ANY_SEGMENT, ANYTHING} for s in (*before, last)):
            raise ValueError("`*` and `**` must be whole segments between slashes")
        rest = r".*" if not before else rf"(?!(?:.*/)?{_DOTS}).*"
        parts = {ANY_SEGMENT: rf"(?!{_DOTS})[^/]+", ANYTHING: rest}
        expression = "/".join(parts.get(s, re.escape(s)) for s in (*before, last))
        object.__setattr__(self, "_expression", re.compile(expression, re.DOTALL))

    def matches(self, value: str | None) -> bool:
        """Return whether the pattern matches a value.

        `*` matches a segment that is not empty. `**` also matches an empty rest, but `a/**` does not match `a`. Neither stands for
        a dot segment (RFC 3986 §3.3), with which a value could leave the folder that the pattern names.

        Args:
            value: The value; None: the request does not have one, and only `**` matches.
        """
        return self.text == ANYTHING or (value is not None and self._expression.fullmatch(value) is not None)

    def __str__(self) -> str:
        return self.text


def parse_pattern(value: Any) -> Pattern:
    """Return a pattern from its text. A `Pattern` is returned as it is.

    Raises:
        ValueError: The value is not the text of a pattern.
    """
    if isinstance(value, Pattern):
        return value
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - pydantic reports a ValueError as a problem
    return Pattern(value)
