"""Frames of HTTP/2 (RFC 9113 §4 and §6), and header fields that no table remembers (RFC 7541 §6.2)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
"""What a client sends first (RFC 9113 §3.4)."""
HEAD_BYTES: Final = 9
MAX_FRAME_BYTES: Final = 16_384
"""Greatest payload, as long as a peer permits no more (RFC 9113 §6.5.2)."""
MAX_FRAME_LIMIT: Final = 2**24 - 1
"""The most that a peer can permit."""
DEFAULT_WINDOW: Final = 65_535
MAX_WINDOW: Final = 2**31 - 1
MAX_STREAM: Final = 2**31 - 1

NO_TABLE: Final = b"\x20"
"""Begins the first block of a side that keeps no table (RFC 7541 §6.3)."""

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITY: Final = 0x20

_HEAD: Final = struct.Struct(">BHBBL")
_SETTING: Final = struct.Struct(">HL")
_NUMBER: Final = struct.Struct(">L")
_PREFIX: Final = 127


class Kind(IntEnum):
    """Types of frames."""

    DATA = 0x0
    HEADERS = 0x1
    PRIORITY = 0x2
    RST_STREAM = 0x3
    SETTINGS = 0x4
    PUSH_PROMISE = 0x5
    PING = 0x6
    GOAWAY = 0x7
    WINDOW_UPDATE = 0x8
    CONTINUATION = 0x9


class Setting(IntEnum):
    """Parameters of SETTINGS (RFC 9113 §6.5.2)."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6


class Code(IntEnum):
    """Error codes (RFC 9113 §7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB


class FrameError(Exception):
    """The peer sent something that is not HTTP/2.

    Attributes:
        code: The error code for it.
    """

    def __init__(self, problem: str, code: Code = Code.PROTOCOL_ERROR) -> None:
        super().__init__(problem)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    size = len(payload)
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def head(data: bytes, at: int) -> tuple[int, int, int, int]:
    """Return size, type, flags and stream of the frame that begins at a position.

    Raises:
        FrameError: It is longer than `MAX_FRAME_BYTES`.
    """
    high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
    if high or low > MAX_FRAME_BYTES:
        raise FrameError("a frame that is too long", Code.FRAME_SIZE_ERROR)
    return low, kind, flags, stream & MAX_STREAM


def settings(values: Iterable[tuple[int, int]]) -> bytes:
    """Return a SETTINGS frame."""
    return frame(Kind.SETTINGS, 0, 0, b"".join(_SETTING.pack(*pair) for pair in values))


def hello(stream_window: int, window: int) -> bytes:
    """Return what a client sends first: it keeps no table of header fields, and takes no pushes.

    Args:
        stream_window: Bytes that the server may send of one answer.
        window: Bytes that it may send of all together, before more are granted.
    """
    wanted = ((Setting.HEADER_TABLE_SIZE, 0), (Setting.ENABLE_PUSH, 0), (Setting.INITIAL_WINDOW_SIZE, stream_window))
    return PREFACE + settings(wanted) + frame(Kind.WINDOW_UPDATE, 0, 0, number(window - DEFAULT_WINDOW))


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """Return the parameters of a SETTINGS frame.

    Raises:
        FrameError: It is not made of whole parameters.
    """
    if len(payload) % _SETTING.size:
        raise FrameError("SETTINGS of a wrong size", Code.FRAME_SIZE_ERROR)
    return list(_SETTING.iter_unpack(payload))


def number(value: int) -> bytes:
    """Return a 32-bit number, as in RST_STREAM and WINDOW_UPDATE."""
    return _NUMBER.pack(value)


def read_number(payload: bytes, at: int = 0) -> int:
    """Return a 32-bit number of a payload.

    Raises:
        FrameError: The payload is too short.
    """
    if len(payload) < at + _NUMBER.size:
        raise FrameError("a frame that is too short", Code.FRAME_SIZE_ERROR)
    return int(_NUMBER.unpack_from(payload, at)[0])


def unpadded(kind: int, flags: int, payload: bytes) -> bytes:
    """Return what DATA or HEADERS carry, without padding and priority.

    Raises:
        FrameError: There is more padding than payload.
    """
    start, end = 0, len(payload)
    if flags & PADDED:
        if not payload:
            raise FrameError("padding without a length")
        start, end = 1, end - payload[0]
    if kind == Kind.HEADERS and flags & PRIORITY:
        start += 5
    if len(payload) < start:
        raise FrameError("fields that are not there", Code.FRAME_SIZE_ERROR)
    if start > end:
        raise FrameError("more padding than payload")
    return payload[start:end]


def header_block(stream: int, block: bytes, flags: int = 0) -> bytes:
    """Return the frames of a block of header fields: HEADERS, and CONTINUATION for what does not fit in it.

    Args:
        stream: Its stream.
        block: The encoded fields.
        flags: `END_STREAM`, if nothing follows it.
    """
    if len(block) <= MAX_FRAME_BYTES:
        return frame(Kind.HEADERS, flags | END_HEADERS, stream, block)
    pieces = [block[at : at + MAX_FRAME_BYTES] for at in range(0, len(block), MAX_FRAME_BYTES)]
    first, last = (
        frame(Kind.HEADERS, flags, stream, pieces[0]),
        frame(Kind.CONTINUATION, END_HEADERS, stream, pieces[-1]),
    )
    return b"".join((first, *(frame(Kind.CONTINUATION, 0, stream, p) for p in pieces[1:-1]), last))


def header_field(name: bytes, value: bytes, *, secret: bool = False) -> bytes:
    """Return a header field as a literal that no table remembers.

    Args:
        name: In lower case.
        value: The value.
        secret: Forbid proxies to put it into a table (RFC 7541 §7.1.3).
    """
    return (b"\x10" if secret else b"\x00") + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    size = len(text)
    if size < _PREFIX:
        return bytes((size,)) + text
    rest, encoded = size - _PREFIX, bytearray((_PREFIX,))
    while rest >= 0x80:  # noqa: PLR2004 - seven bits a byte (RFC 7541 §5.1)
        encoded.append(rest & 0x7F | 0x80)
        rest >>= 7
    encoded.append(rest)
    return bytes(encoded) + text
