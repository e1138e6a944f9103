"""Identifiers: of hosts, tokens, requests, replicas and intents."""

from __future__ import annotations

import os
import socket
import time
from typing import Final

_HOST_NAME: Final = 255
_MILLISECONDS: Final = (1 << 48) - 1
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}
"""The digit with the variant and two random bits (RFC 9562 §4.1), by a random digit."""
_DIGITS: Final = 20
_AT_ONCE: Final = 256
_spare: list[str] = []
"""Random digits for the next identifiers. `os.urandom` lets other threads run and then waits for them, and each token has two
identifiers. No process has the digits of another: they are dropped after a fork."""
os.register_at_fork(after_in_child=_spare.clear)


def host_name() -> str:
    """Return the name of this machine, in which a container has its own. Characters that cannot be printed are replaced."""
    name = socket.gethostname()[:_HOST_NAME]
    return "".join(c if c.isprintable() else "?" for c in name)


def uuid7() -> str:
    """Return a new UUIDv7 (RFC 9562 §5.7): milliseconds since the epoch, then 74 random bits."""
    time_ = f"{time.time_ns() // 1_000_000 & _MILLISECONDS:012x}"
    try:
        random = _spare.pop()
    except IndexError:
        random = _draw()
    return f"{time_[:8]}-{time_[8:]}-7{random[:3]}-{_VARIANT[random[3]]}{random[4:7]}-{random[8:]}"


def _draw() -> str:
    """Return the random digits of one identifier, and keep those of many more."""
    digits = os.urandom(_AT_ONCE * _DIGITS // 2).hex()
    _spare.extend(digits[at : at + _DIGITS] for at in range(_DIGITS, len(digits), _DIGITS))
    return digits[:_DIGITS]
