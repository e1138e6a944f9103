"""Growing pauses between tries."""

from __future__ import annotations

from typing import Final

from sealwright.clock import Clock

_SHORTEST: Final = 1.0
_LONGEST: Final = 60.0


class Backoff:
    """Says by name whether something that failed should still wait: 1 s after the first failure, then twice as long each time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._pauses: dict[str, tuple[float, float]] = {}

    def waits(self, name: str) -> bool:
        """Return whether the pause after the last failure is not over yet."""
        return name in self._pauses and self._clock.elapsed() < self._pauses[name][0]

    def failing(self, name: str) -> bool:
        """Return whether something has failed, and not succeeded since."""
        return name in self._pauses

    def failed(self, name: str) -> None:
        """Start the next pause."""
        last = self._pauses[name][1] if name in self._pauses else 0.0
        pause = min(max(_SHORTEST, 2 * last), _LONGEST)
        self._pauses[name] = (self._clock.elapsed() + pause, pause)

    def pause(self, name: str, seconds: float) -> None:
        """Let something wait that has not failed."""
        self._pauses[name] = (self._clock.elapsed() + seconds, 0.0)

    def succeeded(self, name: str) -> None:
        """Forget the failures."""
        self._pauses.pop(name, None)
