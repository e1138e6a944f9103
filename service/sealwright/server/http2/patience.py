"""How much a client may ask for that is neither a request nor pays for an answer.

Resets, pings, settings, empty frames and the like cost little each, and nothing limits their number (CVE-2019-9512, -9515, -9518,
CVE-2023-44487, CVE-2024-27316). So each of them costs patience, time and answers give it back, and who has used it up is a flood,
whichever kind of frame it is made of.
"""

from __future__ import annotations

from typing import Final

from sealwright.http2.frames import Code, FrameError

MOST: Final = 2000.0
A_SECOND: Final = 500.0
AN_ANSWER: Final = 8.0
A_BYTE: Final = 4.0 / 16_384
"""For each byte of content that is sent: clients enlarge windows for it, some of them every few kilobytes."""
BLOCK_BYTES: Final = 2048
"""So many bytes of header fields that must be decoded cost one unit."""


class Patience:
    """The patience with one client."""

    def __init__(self) -> None:
        self._left = MOST

    def spend(self, units: int = 1) -> None:
        """Use some up.

        Raises:
            FrameError: There is none left.
        """
        self._left -= units
        if self._left < 0:
            raise FrameError("a flood", Code.ENHANCE_YOUR_CALM)

    def earn(self, units: float) -> None:
        """Get some back."""
        self._left = min(MOST, self._left + units)
