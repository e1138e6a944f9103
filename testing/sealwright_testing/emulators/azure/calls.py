"""What clients asked for: counts, and the last requests."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any, Final

MAX_RECORDS: Final = 1000
"""How many requests are remembered. Counts go on."""
PENDING: Final = "pending"
"""The outcome of a request that is not answered yet."""
GONE: Final = "gone"
"""The outcome of a request whose client did not wait for the answer."""
OK: Final = "ok"
"""The outcome of a request that was answered with success."""
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


@dataclass(slots=True)
class CallLog:
    """Counts and the last requests."""

    _records: deque[CallRecord] = field(default_factory=lambda: deque(maxlen=MAX_RECORDS))
    _counts: Counter[str] = field(default_factory=Counter)
    _by_name: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, record: CallRecord) -> None:
        """Count and remember a request."""
        self._records.append(record)
        self._counts[record.operation] += 1
        if record.name is not None:
            self._by_name.setdefault(record.name, Counter())[record.operation] += 1

    def counts(self, name: str | None = None) -> dict[str, int]:
        """Return how often each operation was asked for, refused requests too; for one key name if given."""
        return dict(self._counts if name is None else self._by_name.get(name, Counter()))

    def records(self) -> tuple[CallRecord, ...]:
        """Return the last requests, oldest first."""
        return tuple(self._records)

    def reset(self) -> None:
        """Forget everything."""
        self._records.clear()
        self._counts.clear()
        self._by_name.clear()
