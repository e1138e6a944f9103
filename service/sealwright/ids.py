"""Identifiers: of hosts, tokens, requests, replicas and intents."""

from __future__ import annotations

import os
import socket
import time
from typing import Final

_HOST_NAME: Final = 255
_VERSION_7: Final = 0x7 << 76 | 0b10 << 62
_RANDOM: Final = (0xFFF << 64) | ((1 << 62) - 1)


def host_name() -> str:
    """Return the name of this machine, in which a container has its own. Characters that cannot be printed are replaced."""
    name = socket.gethostname()[:_HOST_NAME]
    return "".join(c if c.isprintable() else "?" for c in name)


def uuid7() -> str:
    """Return a new UUIDv7 (RFC 9562 §5.7): milliseconds since the epoch, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000 & (1 << 48) - 1
    value = milliseconds << 80 | _VERSION_7 | int.from_bytes(os.urandom(10), "big") & _RANDOM
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
