"""The supervisor: runs the configured number of workers on the same ports, and prints one line with the addresses."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

from sealwright.errors import ConfigurationError
from sealwright.metrics import MULTIPROCESS_VARIABLE
from sealwright.server.addresses import Address, CannotListenError, UnixSocket
from sealwright.server.settings import ServerSettings
from sealwright.server.worker import Announce

log = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.2
_KILL_AFTER: Final = 10.0
"""Seconds after `drain_seconds` until a worker that has not ended is killed."""


@contextlib.contextmanager
def reserved_ports(settings: ServerSettings) -> Iterator[dict[str, str]]:
    """Reserve each port with a socket that never listens, so that port 0 becomes the same port for all workers.

    Yields:
        The addresses of `grpc`, `http` and `admin` with real ports, as text for the configuration of the workers.

    Raises:
        CannotListenError: A port is in use.
    """
    with contextlib.ExitStack() as stack:
        wanted = {"grpc": settings.grpc, "http": settings.http, "admin": settings.admin}
        yield {name: str(_reserve(name, address, stack)) for name, address in wanted.items()}


def _reserve(name: str, address: Address | UnixSocket, stack: contextlib.ExitStack) -> Address | UnixSocket:
    if isinstance(address, UnixSocket):
        return address
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # This socket does not set SO_REUSEPORT, so that bind fails even if another program listens with it.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((address.host, address.port))
            port = probe.getsockname()[1]
        holder = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((address.host, port))
    except OSError as e:
        raise CannotListenError(name, address, e) from e
    return Address(address.host, port)


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[bytes]
    started: float
    line: bytes = b""
    ready: bool = field(default=False)


class Supervisor:
    """Starts each worker as a new process, restarts workers that crash, and forwards signals.

    It never forks, because gRPC and HSM clients do not work after a fork.
    """

    def __init__(self, command: Sequence[str], document: bytes, settings: ServerSettings, announce: Announce) -> None:
        """Prepare the workers.

        Args:
            command: Command that starts a worker. The worker prints its addresses as one line of JSON when it is useful.
            document: Configuration of a worker, which it reads from its standard input.
            settings: Number of workers, and their time to drain.
            announce: Receives the addresses when all workers are useful.
        """
        self._command = command
        self._document = document
        self._settings = settings
        self._announce = announce
        self._environment: dict[str, str] = {}
        self._workers: list[_Worker] = []
        self._stopping = False
        self._announced = False

    def run(self) -> None:
        """Run the workers until SIGTERM or SIGINT, and return when all have ended."""
        with self._signals(), tempfile.TemporaryDirectory(prefix="sealwright-metrics-") as shared:
            self._environment = {**os.environ, MULTIPROCESS_VARIABLE: shared}
            try:
                while len(self._workers) < self._settings.workers:
                    self._workers.append(self._start())
                while not self._stopping:
                    self._look()
                self._end()
            finally:
                for worker in self._workers:
                    if worker.process.poll() is None:
                        worker.process.kill()
                        worker.process.wait()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True

        before = {n: signal.signal(n, stop) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self) -> _Worker:
        process = subprocess.Popen(  # noqa: S603 - our own command
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=self._environment,
            start_new_session=True,  # Ctrl-C reaches only the supervisor, which then drains the workers
        )
        if process.stdin is None:
            raise RuntimeError("a worker without standard input")
        with process.stdin as pipe:
            pipe.write(self._document)
        log.info("worker %d started", process.pid)
        return _Worker(process, time.monotonic())

    def _look(self) -> None:
        """Read the output of workers, and restart those that have ended."""
        waiting = {w.process.stdout: w for w in self._workers if w.process.stdout and not w.ready}
        for stream in select.select(list(waiting), [], [], _POLL_SECONDS)[0]:
            worker = waiting[stream]
            chunk = os.read(stream.fileno(), 4096)
            worker.line += chunk
            worker.ready = b"\n" in worker.line
            if not chunk:
                time.sleep(_POLL_SECONDS)
        if not self._announced and all(w.ready for w in self._workers):
            self._announced = True
            self._announce(json.loads(self._workers[0].line))
        for i, worker in enumerate(self._workers):
            if worker.process.poll() is not None and not self._stopping:
                if not self._announced and not worker.ready:
                    raise ConfigurationError(["a worker ended before it was ready; see its log for the reason"])
                log.error(
                    "worker %d ended with status %d; restarting it", worker.process.pid, worker.process.returncode
                )
                time.sleep(max(0.0, worker.started + _RESTART_SECONDS - time.monotonic()))
                self._workers[i] = self._start()

    def _end(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain_seconds + _KILL_AFTER
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))
