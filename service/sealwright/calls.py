"""Who calls, until when, and under which name in logs and records."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated call.

    Attributes:
        caller: Who calls (see `access.identity`).
        request_id: Names the call in answers, logs and audit records.
        peer: Network address of the caller, for the audit.
        end: Stopwatch (`Clock.elapsed`) at the caller's deadline.
    """

    caller: str
    request_id: str
    peer: str
    end: float
