"""Header fields as they arrive (RFC 7541).

hpack decodes them. Most requests of a connection have the same few blocks, and a block means the same as long as the table of the
decoder is the same, so what was read from it is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar, cast

import hpack

MAX_BLOCK_BYTES: Final = 64 * 1024
"""Most bytes of a header block, encoded or decoded. The end of the connection is the answer to more."""
_KNOWN_BLOCKS: Final = 64
_KNOWN_BLOCK_BYTES: Final = 2048
_MOST_RESIZES: Final = 16
"""Changes of the size of the table at the start of a block. Two are enough (RFC 7541 §4.2), but some encoders send each of them."""
_KIND: Final = 0b11100000
_RESIZE: Final = 0b00100000
_PREFIX: Final = 0b00011111
_GOES_ON: Final = 0b10000000

H = TypeVar("H")
Fields = Sequence[tuple[bytes, bytes]]


class FieldDecoder(Generic[H]):
    """Decodes the header blocks of one connection, in the order of their arrival."""

    def __init__(self, read: Callable[[Fields], H]) -> None:
        """Prepare.

        Args:
            read: Reads what is needed from fields. What it raises is passed on.
        """
        self._read = read
        self._decoder = hpack.Decoder(max_header_list_size=MAX_BLOCK_BYTES)
        self._known: dict[bytes, H] = {}

    def knows(self, block: bytes) -> bool:
        """Return whether a block costs nothing."""
        return block in self._known

    def decode(self, block: bytes) -> H:
        """Return what a block means.

        Raises:
            hpack.HPACKError: It cannot be decoded, or has more than `MAX_BLOCK_BYTES`.
        """
        known = self._known.get(block)
        if known is not None:
            return known
        resizes = _resizes(block)
        if resizes > _MOST_RESIZES:
            raise hpack.HPACKDecodingError("the size of the table changes again and again")
        entries = self._decoder.header_table.dynamic_entries
        size, newest = len(entries), entries[0] if entries else None
        fields = cast("Fields", self._decoder.decode(block, raw=True))
        if resizes or len(entries) != size or (entries and entries[0] is not newest):
            self._known.clear()  # blocks mean something else now, or change something else
            return self._read(fields)
        read = self._read(fields)
        if len(block) <= _KNOWN_BLOCK_BYTES:
            if len(self._known) >= _KNOWN_BLOCKS:
                self._known.clear()
            self._known[block] = read
        return read


def _resizes(block: bytes) -> int:
    """Return with how many changes of the size of the table a block begins (RFC 7541 §6.3). It does not count many."""
    count = at = 0
    while count <= _MOST_RESIZES and at < len(block) and block[at] & _KIND == _RESIZE:
        count += 1
        long = block[at] & _PREFIX == _PREFIX
        at += 1
        while long and at < len(block):
            long = bool(block[at] & _GOES_ON)
            at += 1
    return count
