"""What a client sends, cut into frames: the preface, their order, and whole blocks of header fields (RFC 9113 §3.4, §4, §6.10)."""

from __future__ import annotations

from collections.abc import Iterator

from sealwright.http2 import frames
from sealwright.http2.frames import FrameError, Kind
from sealwright.server.http2.fields import MAX_BLOCK_BYTES
from sealwright.server.http2.patience import Patience

Frame = tuple[int, int, int, bytes]
"""Type, flags, stream and payload. HEADERS have the whole block, without padding."""


class FrameReader:
    """Reads the frames of one connection.

    Attributes:
        begun: Whether the preface has come.
    """

    def __init__(self, patience: Patience) -> None:
        self.begun = False
        self._settled = False
        self._patience = patience
        self._rest = b""
        self._block: Frame | None = None

    def read(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames that are complete with this data. The rest waits for more.

        Raises:
            FrameError: It is not HTTP/2.
        """
        if self._rest:
            data = self._rest + data
            self._rest = b""
        at, end = 0, len(data)
        if not self.begun:
            at = self._preface(data)
        while end - at >= frames.HEAD_BYTES and self.begun:
            size, kind, flags, number = frames.head(data, at)
            start = at + frames.HEAD_BYTES
            if start + size > end:
                break
            at = start + size
            if self._block is None and kind != Kind.HEADERS and self._settled and kind != Kind.CONTINUATION:
                yield kind, flags, number, data[start:at]
            elif (frame := self._ordered(kind, flags, number, data[start:at])) is not None:
                yield frame
        self._rest = data[at:]

    def _preface(self, data: bytes) -> int:
        """Return the length of the preface once it is complete."""
        preface = frames.PREFACE
        if not preface.startswith(data[: len(preface)]):
            raise FrameError("not the preface of HTTP/2")
        if len(data) < len(preface):
            return 0
        self.begun = True
        return len(preface)

    def _ordered(self, kind: int, flags: int, number: int, payload: bytes) -> Frame | None:
        if not self._settled:
            if kind != Kind.SETTINGS or flags & frames.ACK:
                raise FrameError("no SETTINGS at the start")
            self._settled = True
        if self._block is not None or kind == Kind.CONTINUATION:
            return self._continued(kind, flags, number, payload)
        if kind != Kind.HEADERS:
            return kind, flags, number, payload
        if flags & frames.PRIORITY and int.from_bytes(_priority(flags, payload)) & frames.MAX_STREAM == number:
            raise FrameError("a stream that depends on itself")
        if flags & (frames.PADDED | frames.PRIORITY):
            payload = frames.unpadded(Kind.HEADERS, flags, payload)
        if flags & frames.END_HEADERS:
            return kind, flags, number, payload
        self._block = kind, flags, number, payload
        return None

    def _continued(self, kind: int, flags: int, number: int, payload: bytes) -> Frame | None:
        if self._block is None or kind != Kind.CONTINUATION or number != self._block[2]:
            raise FrameError("header fields that do not go on")
        self._patience.spend()
        first, first_flags, _, block = self._block
        if len(block) <= MAX_BLOCK_BYTES:  # else it is not decoded, and need not be kept
            block += payload
        self._block = first, first_flags, number, block
        if not flags & frames.END_HEADERS:
            return None
        whole, self._block = self._block, None
        return whole


def _priority(flags: int, payload: bytes) -> bytes:
    start = 1 if flags & frames.PADDED else 0
    return payload[start : start + 4]
