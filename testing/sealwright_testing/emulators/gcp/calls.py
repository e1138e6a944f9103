"""What clients asked for: counts, and the last requests."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

MAX_RECORDS: Final = 1000
"""How many requests are remembered. Counts go on."""
PENDING: Final = "pending"
"""The outcome of a request that is not answered yet."""
GONE: Final = "gone"
"""The outcome of a request whose client did not wait for the answer."""
OK: Final = "ok"
"""The outcome of a request that was answered with success."""


@dataclass(slots=True, kw_only=True)
class CallRecord:
    """One request.

    Attributes:
        time: When it arrived, in seconds since the epoch by the wall clock.
        operation: Such as `AsymmetricSign`.
        name: The resource that it is about.
        digest: Name of the digest that it has: `sha256`, `sha384`, `sha512`, or empty.
        data_length: Bytes of its `data`; None: it has none.
        has_crc: Whether it has a checksum of its digest or data.
        metadata: The headers without `authorization`.
        authorized: Whether it has a bearer token.
        outcome: `ok`, the name of a gRPC code, the fault that left it without an answer, `pending`, or `gone`.
    """

    time: float
    operation: str
    name: str = ""
    digest: str = ""
    data_length: int | None = None
    has_crc: bool = False
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    authorized: bool = False
    outcome: str = PENDING


class CallLog:
    """Counts and the last requests. May be used from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[CallRecord] = deque(maxlen=MAX_RECORDS)
        self._counts: Counter[str] = Counter()

    def add(self, record: CallRecord) -> None:
        """Count and remember a request."""
        with self._lock:
            self._records.append(record)
            self._counts[record.operation] += 1

    def counts(self) -> dict[str, int]:
        """Return how often each operation was asked for, refused requests too."""
        with self._lock:
            return dict(self._counts)

    def records(self) -> tuple[CallRecord, ...]:
        """Return the last requests, oldest first."""
        with self._lock:
            return tuple(self._records)

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._records.clear()
            self._counts.clear()
