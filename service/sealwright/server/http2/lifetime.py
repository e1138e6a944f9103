"""How long a connection may wait for its client, and how long it lives."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Final

GREETING_SECONDS: Final = 10.0
"""Longest time from the TLS handshake to the first SETTINGS."""
STALLED_SECONDS: Final = 20.0
"""Longest time for which a client takes nothing of what is sent to it."""
PING_AFTER_SECONDS: Final = 60.0
"""A client that has been silent for so long is asked for a sign of life."""
PING_SECONDS: Final = 20.0
AGE_SECONDS: Final = 3600.0
"""After about this time, the listener asks clients to connect again and to show their certificate again. They lose no call."""
LEAVING_SECONDS: Final = 90.0
"""Longest time from then to the end. Calls take at most a minute."""
CLOSING_SECONDS: Final = 5.0
"""Longest time for taking what was sent before the end."""


class Lifetime:
    """The times of one connection, as readings of its clock.

    Attributes:
        heard: When the client last sent something.
        stalled: Since when it has not been reading; None: it reads.
        pinged: Since when it owes a sign of life; None: it owes none.
        greeted: Whether its first SETTINGS have come.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        """Begin now."""
        self._clock = clock
        self._opened = self.heard = clock()
        self._age = AGE_SECONDS * random.uniform(0.9, 1.1)  # noqa: S311 - so that not all clients connect again at once
        self._unsent = 0
        self._end = math.inf
        self.stalled: float | None = None
        self.pinged: float | None = None
        self.greeted = False

    @property
    def deadline(self) -> float:
        """When it has kept us waiting for too long."""
        if not self.greeted:
            return min(self._end, self._opened + GREETING_SECONDS)
        if self.stalled is not None:
            return min(self._end, self.stalled + STALLED_SECONDS)
        return self._end if self.pinged is None else min(self._end, self.pinged + PING_SECONDS)

    @property
    def old(self) -> bool:
        """Whether it should make place for a new one."""
        return self._clock() - self._opened > self._age

    def hear(self) -> None:
        """Note that something has come."""
        self.heard = self._clock()
        self.pinged = None

    def stall(self, unsent: int) -> None:
        """Note that the client does not read as fast as it is answered.

        Args:
            unsent: Bytes that wait for it.
        """
        self.stalled, self._unsent = self._clock(), unsent

    def take(self, unsent: int) -> None:
        """Note how much waits for a slow client. As long as it becomes less, the client reads."""
        if unsent < self._unsent:
            self.stall(unsent)

    def go_on(self) -> None:
        """Note that the client reads again."""
        self.stalled = None
        self.hear()

    def owes_a_ping(self) -> bool:
        """Return whether to send a ping now, because the client has been silent for long."""
        now = self._clock()
        if self.stalled is not None:
            return False  # Nothing is read from it.
        if self.pinged is not None or now - self.heard <= PING_AFTER_SECONDS or not self.greeted:
            return False
        self.pinged = now
        return True

    def end_within(self, seconds: float) -> None:
        """Set the longest time that is left."""
        self._end = min(self._end, self._clock() + seconds)
