"""Faults on demand, for every emulator: how they are read, counted and ended. Each emulator says which there are."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

ANY: Final = "*"
"""In `BaseFault.operation`: every operation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseFault:
    """The part of a fault that is the same for every emulator.

    Attributes:
        kind: The kind of fault.
        operation: The operation that is affected, such as `Sign`; `*` for all.
        times: How often it applies before it ends by itself; None: until it is cleared.
        seconds: The duration, for the kinds that have one.
        message: The text of the error.
        retry_after: Seconds after which the answer asks the client to try again.
        after: Whether the operation takes effect first, before the failure (its answer is lost) or the delay.
    """

    KINDS: ClassVar[type[StrEnum]]
    """The type of `kind`."""
    NEED_SECONDS: ClassVar[frozenset[StrEnum]]
    """The kinds that make no sense without `seconds`."""

    kind: StrEnum
    operation: str = ANY
    times: int | None = None
    seconds: float = 0.0
    message: str | None = None
    retry_after: float | None = None
    after: bool = False

    def __post_init__(self) -> None:
        """Raise ValueError if the fields do not fit together."""
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1")
        if self.seconds < 0:
            raise ValueError("seconds must not be negative")
        if self.kind in self.NEED_SECONDS and not self.seconds:
            raise ValueError(f"{self.kind} needs seconds")

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read a fault from a JSON object with the names of the attributes.

        Raises:
            ValueError: It is not an object, has an unknown name, or an invalid value.
        """
        if not isinstance(value, dict):
            raise ValueError("a fault is a JSON object")  # noqa: TRY004 - the caller sees one kind of bad input
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(value) - known):
            raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        try:
            return cls(**{**value, "kind": cls.KINDS(value.get("kind", ""))})
        except TypeError as error:
            raise ValueError(str(error)) from None

    def to_json(self) -> dict[str, Any]:
        """Return the JSON that `from_json` reads, without attributes that have no value."""
        return {name: value for name, value in asdict(self).items() if value is not None}


FaultT = TypeVar("FaultT", bound=BaseFault)


@dataclass(slots=True, eq=False)
class _Armed(Generic[FaultT]):
    fault: FaultT
    left: int | None


class FaultBook(Generic[FaultT]):
    """The active faults, in the order in which they were added. May be used from any thread."""

    def __init__(self) -> None:
        self._armed: list[_Armed[FaultT]] = []
        self._lock = threading.Lock()

    def add(self, fault: FaultT) -> None:
        """Add a fault."""
        with self._lock:
            self._armed.append(_Armed(fault, fault.times))

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._armed.clear()

    def active(self) -> tuple[FaultT, ...]:
        """Return the active faults."""
        with self._lock:
            return tuple(armed.fault for armed in self._armed)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the active faults, each with the `left` times if it ends by itself."""
        with self._lock:
            return [a.fault.to_json() | ({} if a.left is None else {"left": a.left}) for a in self._armed]

    def spend(self, apply: Callable[[FaultT], bool]) -> None:
        """Offer each active fault to a request, and count those that apply.

        Args:
            apply: Returns whether a fault applies to the request, after it has noted the effects.
        """
        with self._lock:
            for armed in tuple(self._armed):
                if apply(armed.fault) and armed.left is not None:
                    armed.left -= 1
                    if armed.left <= 0:
                        self._armed.remove(armed)
