"""The patterns of grants: `*` is one whole segment between slashes, `**` the rest or anything."""

from __future__ import annotations

import re

WHOLE_SEGMENT, ANYTHING = "*", "**"


def check(pattern: str) -> str:
    """Return the pattern if it is well formed.

    Raises:
        ValueError: It is empty, or has an asterisk that is not a whole segment, or `**` elsewhere than at the end.
    """
    if not pattern:
        raise ValueError("must not be empty")
    segments = pattern.split("/")
    for i, segment in enumerate(segments):
        if segment == ANYTHING and i < len(segments) - 1:
            raise ValueError("`**` may only stand at the end")
        if "*" in segment and segment not in {WHOLE_SEGMENT, ANYTHING}:
            raise ValueError("`*` and `**` must be whole segments between slashes")
    return pattern


def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Return a regular expression that matches what the pattern means, whole strings only.

    A segment that `*` stands for is not empty; what `**` stands for may be, but `a/**` does not match `a`.
    """
    parts = {WHOLE_SEGMENT: r"[^/]+", ANYTHING: r".*"}
    return re.compile("/".join(parts.get(s, re.escape(s)) for s in pattern.split("/")), re.DOTALL)
