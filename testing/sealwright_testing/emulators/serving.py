"""Running an emulator as a command, for tests in any language."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Emulator(Protocol):
    """What the command needs of an emulator."""

    @property
    def endpoint(self) -> str:
        """The URL to give to a client, once started."""
        ...

    async def start(self) -> None:
        """Listen; raise OSError where that cannot be."""
        ...

    async def stop(self) -> None:
        """Stop listening."""
        ...


def serve(emulator: Emulator, extra: Callable[[], Mapping[str, str]] = dict) -> None:
    """Serve until SIGTERM or SIGINT.

    Prints one JSON line on standard output once connections are accepted: the emulator's `endpoint`, and what `extra`
    returns then (such as the path of a CA certificate).

    Raises:
        OSError: the address cannot be listened on.
    """
    asyncio.run(_serve(emulator, extra))


async def _serve(emulator: Emulator, extra: Callable[[], Mapping[str, str]]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Before the line is printed: whoever reads it may stop us at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await emulator.start()
    try:
        sys.stdout.write(json.dumps({"endpoint": emulator.endpoint, **extra()}) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    finally:
        await emulator.stop()
