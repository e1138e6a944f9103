"""Findings of `sealwright doctor`: what was examined, and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One finding.

    Attributes:
        part: What was examined: `tls`, `store`, `providers.aws` and so on.
        level: How bad it is. Only problems change the exit status.
        text: What was found. It contains no secret, no token and no key URI.
    """

    part: str
    level: Level
    text: str


def ok(part: str, text: str) -> Finding:
    """Return a finding that is as it should be."""
    return Finding(part, Level.OK, text)


def warning(part: str, text: str) -> Finding:
    """Return a finding that an operator should look at."""
    return Finding(part, Level.WARNING, text)


def problem(part: str, text: str) -> Finding:
    """Return a finding that stops the service, or a part of it."""
    return Finding(part, Level.PROBLEM, text)
