"""The record of a request."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from sealwright_testing.emulators.calls import PENDING

CHALLENGE: Final = "challenge"
"""The outcome of a request without a token: it was answered with 401 and how to get one."""


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """One request.

    Attributes:
        time: When it came, in seconds since the epoch.
        operation: Such as `Sign`, `GetKey` or `Token`.
        name: The key's name in the path; None: the operation has none.
        version: The version in the path; None: the path has none.
        algorithm: The `alg` of Sign and Verify.
        value_length: Bytes of their `value`, which itself is not kept.
        outcome: `ok`, `challenge`, the error's `code`, the fault that left it without an answer, `pending`, or `gone`.
    """

    time: float
    operation: str
    name: str | None = None
    version: str | None = None
    algorithm: str | None = None
    value_length: int | None = None
    outcome: str = PENDING

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object with the names of the attributes."""
        return asdict(self)
