"""One worker process: runs a service in an event loop until a signal stops it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import uvloop

from sealwright.threads import giving_way

log = logging.getLogger(__name__)

_BEAT_SECONDS: Final = 1.0
_GC_THRESHOLDS: Final = (10_000, 20, 20)
"""Objects made until the youngest generation is collected, and collections until the next generation is."""

Announce = Callable[[Mapping[str, str]], None]
"""Receives the real addresses when every issuer can sign, or is blocked by something that waiting will not fix soon."""


class Service(Protocol):
    """The service that a worker runs, as `app.build` makes it."""

    @property
    def replica_id(self) -> str:
        """Names this start of the worker."""
        ...

    @property
    def addresses(self) -> Mapping[str, str]:
        """The real addresses of the listeners."""
        ...

    async def start(self) -> None:
        """Start to serve."""
        ...

    async def wait_until_useful(self) -> None:
        """Wait until every issuer can sign, or is blocked by something that waiting will not fix soon."""
        ...

    def reopen(self) -> None:
        """Open log-like files again (SIGHUP)."""
        ...

    async def stop(self) -> None:
        """Wait for running calls to end, and close."""
        ...


def run_worker(build: Callable[[], Service], announce: Announce, lifeline: int | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain. SIGHUP opens the audit file again; SIGUSR1 is ignored.

    Args:
        build: Makes the service. It is called in the worker's event loop.
        announce: See `Announce`.
        lifeline: Descriptor of a socket to the supervisor: it shows that the event loop runs, and ends the worker when the
            supervisor has ended.

    Raises:
        ConfigurationError: The configuration refers to something that cannot be used.
        StoreUnavailableError: The store cannot be opened.
    """
    uvloop.run(_serve(build, announce, lifeline))


def settle_memory() -> None:
    """Keep the garbage collector away from what lives as long as the process.

    Modules, clients and settings are some hundred thousand objects. Walking through them again and again took a quarter of the CPU
    of a busy worker (benchmarks/signing.py). The collector goes on with what is made from now on, less often: a signature makes few
    cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


async def _serve(build: Callable[[], Service], announce: Announce, lifeline: int | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    service = build()
    loop.add_signal_handler(signal.SIGHUP, service.reopen)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with contextlib.ExitStack() as ending:
        if lifeline is not None:
            line = ending.enter_context(socket.socket(fileno=lifeline))
            line.sendall(service.replica_id.encode() + b"\n")
            beating = asyncio.create_task(_beat(line, stop))
            ending.callback(beating.cancel)
        with giving_way():
            await service.start()
        try:
            ready = asyncio.create_task(service.wait_until_useful())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({ready, stopping}, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            settle_memory()
            if not stop.is_set():
                announce(service.addresses)
            await stopping
            log.info("stopping: waiting for running calls to end")
        finally:
            await service.stop()


async def _beat(lifeline: socket.socket, stop: asyncio.Event) -> None:
    """Write to the supervisor every second, and stop the worker when the supervisor has closed its end."""
    lifeline.settimeout(0)
    while True:
        try:
            lifeline.send(b".")
        except BlockingIOError:
            pass  # The supervisor was stopped for hours.
        except OSError:
            log.error("the supervisor has ended; stopping")  # noqa: TRY400 - the error says only that the pipe is broken
            stop.set()
            return
        await asyncio.sleep(_BEAT_SECONDS)
