"""What clients asked an emulator for: counts, and the last requests."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeVar

MAX_RECORDS: Final = 1000
"""How many requests are kept. Counts continue beyond that."""
PENDING: Final = "pending"
"""The outcome of a request that is not answered yet."""
GONE: Final = "gone"
"""The outcome of a request whose client did not wait for the answer."""
OK: Final = "ok"
"""The outcome of a successful request."""


class Record(Protocol):
    """What the log needs to know of a request."""

    operation: str


RecordT = TypeVar("RecordT", bound=Record)


class CallLog(Generic[RecordT]):
    """Counts and the last requests. May be used from any thread."""

    def __init__(self, key: Callable[[RecordT], str | None]) -> None:
        """Prepare.

        Args:
            key: Returns the name of the key that a request is about; None: it is about no key.
        """
        self._key = key
        self._lock = threading.Lock()
        self._records: deque[RecordT] = deque(maxlen=MAX_RECORDS)
        self._counts: Counter[str] = Counter()
        self._by_key: dict[str, Counter[str]] = {}

    def add(self, record: RecordT) -> None:
        """Count and keep a request."""
        key = self._key(record)
        with self._lock:
            self._records.append(record)
            self._counts[record.operation] += 1
            if key is not None:
                self._by_key.setdefault(key, Counter())[record.operation] += 1

    def counts(self, key: str | None = None) -> dict[str, int]:
        """Return how often each operation was requested, including refused requests; for one key if given."""
        with self._lock:
            return dict(self._counts if key is None else self._by_key.get(key, Counter()))

    def records(self) -> tuple[RecordT, ...]:
        """Return the last requests, oldest first."""
        with self._lock:
            return tuple(self._records)

    def reset(self) -> None:
        """Forget everything."""
        with self._lock:
            self._records.clear()
            self._counts.clear()
            self._by_key.clear()
