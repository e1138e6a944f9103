"""Runs an emulator as a command, for tests in any language."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Emulator(Protocol):
    """The interface of an emulator that the command needs."""

    @property
    def endpoint(self) -> str:
        """The URL to give to a client, once started."""
        ...

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The address cannot be used.
        """
        ...

    async def stop(self) -> None:
        """Stop listening."""
        ...


def serve(emulator: Emulator, extra: Callable[[], Mapping[str, str]] = dict) -> None:
    """Serve until SIGTERM or SIGINT.

    Prints one JSON line on standard output once the emulator accepts connections. It contains the `endpoint`, and what `extra`
    returns then (such as the path of a CA certificate).

    Raises:
        OSError: The address cannot be used.
    """
    asyncio.run(_serve(emulator, extra))


async def _serve(emulator: Emulator, extra: Callable[[], Mapping[str, str]]) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    # Do this before printing the line, since its reader may send a signal at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    await emulator.start()
    try:
        sys.stdout.write(json.dumps({"endpoint": emulator.endpoint, **extra()}) + "\n")
        sys.stdout.flush()
        await stopping.wait()
    finally:
        await emulator.stop()
