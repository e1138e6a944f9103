"""The supervisor: runs the configured number of workers on the same ports, and prints one line with the addresses."""

from __future__ import annotations

import contextlib
import errno
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
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final

from sealwright import metrics_files
from sealwright.errors import ConfigurationError
from sealwright.server.addresses import Address, CannotListenError, UnixSocket
from sealwright.server.settings import ServerSettings
from sealwright.server.worker import Announce

log = logging.getLogger(__name__)

_RESTART_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.2
HANG_SECONDS: Final = 10.0
"""A worker whose event loop has not run for so long is replaced."""
_PORT_SECONDS: Final = 5.0
"""How long a start waits for a port. Workers of a supervisor that was killed need a moment to end."""
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
    end = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            return _hold(address, family, stack)
        except OSError as e:
            if e.errno != errno.EADDRINUSE or time.monotonic() > end:
                raise CannotListenError(name, address, e) from e
            time.sleep(_POLL_SECONDS)


def _hold(address: Address, family: int, stack: contextlib.ExitStack) -> Address:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # This socket does not set SO_REUSEPORT, so that bind fails even if another program listens with it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((address.host, address.port))
        port = probe.getsockname()[1]
    holder = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((address.host, port))
    return Address(address.host, port)


@dataclass(slots=True)
class _Worker:
    """A worker process.

    Attributes:
        process: The process.
        lifeline: Our end of a socket pair. The worker writes a byte to it every second, and ends when we close it.
        started: When it was started, by `time.monotonic`.
        line: What it has printed.
        beat: When it last wrote to the lifeline; None: not yet.
        name: What it has written there before the beats: its replica id, and a line feed.
    """

    process: subprocess.Popen[bytes]
    lifeline: socket.socket
    started: float
    line: bytes = b""
    beat: float | None = None
    name: bytes = b""

    @property
    def replica_id(self) -> str | None:
        """Its replica id; None: it has ended before it could tell."""
        return self.name.decode("ascii", "replace").removesuffix("\n") if self.name.endswith(b"\n") else None

    @property
    def ready(self) -> bool:
        """Whether it has printed its addresses."""
        return b"\n" in self.line

    @property
    def hangs(self) -> bool:
        """Whether its event loop has not run for too long."""
        return self.beat is not None and time.monotonic() - self.beat > HANG_SECONDS


class Supervisor:
    """Starts each worker as a new process, replaces workers that crash or hang, and forwards signals.

    It never forks, because HSM clients do not work after a fork. Workers end when their supervisor ends.
    """

    def __init__(
        self,
        command: Sequence[str],
        document: bytes,
        settings: ServerSettings,
        announce: Announce,
        metrics: Path | None = None,
    ) -> None:
        """Prepare the workers.

        Args:
            command: Command that starts a worker. Options are added: `--config-fd`, from which it reads its configuration,
                `--lifeline-fd`, and `--forget` with the replica id of a worker that has ended. The worker prints its addresses as
                one line of JSON when it is useful.
            document: Configuration of a worker.
            settings: Number of workers, and their time to drain.
            announce: Receives the addresses when all workers are useful.
            metrics: A directory for files of the metrics; None: a temporary one.
        """
        self._metrics = metrics or Path(tempfile.gettempdir()) / "sealwright-metrics"
        self._command = command
        self._document = document
        self._settings = settings
        self._announce = announce
        self._environment: dict[str, str] = {}
        self._workers: list[_Worker] = []
        self._stopping = False
        self._announced = False

    def run(self) -> None:
        """Run the workers until SIGTERM or SIGINT, and return when all have ended. SIGHUP goes to all workers."""
        with self._signals(), metrics_files.folder_of_supervisor(self._metrics) as shared:
            self._shared = shared
            self._environment = {**os.environ, metrics_files.VARIABLE: str(shared)}
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
                    worker.lifeline.close()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        def stop(_number: int, _frame: FrameType | None) -> None:
            self._stopping = True

        def forward(number: int, _frame: FrameType | None) -> None:
            for worker in self._workers:
                if worker.process.poll() is None:
                    worker.process.send_signal(number)

        handlers: dict[int, Any] = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: forward}
        handlers[signal.SIGUSR1] = signal.SIG_IGN
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, forget: str | None = None) -> _Worker:
        """Start a worker.

        Args:
            forget: Replica id of the worker that it replaces. Others would wait for that one when a key is revoked.
        """
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        # A file in memory, not a pipe: a worker that ends or stops before it has read a large configuration cannot block us.
        configuration = os.memfd_create("sealwright-configuration", os.MFD_CLOEXEC)
        try:
            os.write(configuration, self._document)
            os.lseek(configuration, 0, os.SEEK_SET)
            inherited = (configuration, theirs.fileno())
            process = subprocess.Popen(  # noqa: S603 - our own command
                [
                    *self._command,
                    *("--config-fd", str(inherited[0]), "--lifeline-fd", str(inherited[1])),
                    *(() if forget is None else ("--forget", forget)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                env=self._environment,
                pass_fds=inherited,
                start_new_session=True,  # Ctrl-C reaches only the supervisor, which then drains the workers
            )
        except BaseException:
            ours.close()
            raise
        finally:
            os.close(configuration)
            theirs.close()
        log.info("worker %d started", process.pid)
        return _Worker(process, ours, time.monotonic())

    def _look(self) -> None:
        """Read the output of workers, and replace those that have ended or hang."""
        streams: dict[Any, _Worker] = {w.lifeline: w for w in self._workers}
        streams |= {w.process.stdout: w for w in self._workers if w.process.stdout and not w.ready}
        for stream in select.select(list(streams), [], [], _POLL_SECONDS)[0]:
            _read(streams[stream], stream)
        if not self._announced and all(w.ready for w in self._workers):
            self._announced = True
            self._announce(json.loads(self._workers[0].line))
        for i, worker in enumerate(self._workers):
            if self._stopping:
                return
            if worker.hangs:
                log.error("worker %d has not answered for %.0f s; killing it", worker.process.pid, HANG_SECONDS)
                worker.process.kill()
                worker.process.wait()
            if worker.process.poll() is not None:
                self._workers[i] = self._replace(worker)

    def _replace(self, worker: _Worker) -> _Worker:
        if not self._announced and not worker.ready:
            raise ConfigurationError(["a worker ended before it was ready; see its log for the reason"])
        status = worker.process.returncode
        log.error("worker %d ended with status %d; starting another one", worker.process.pid, status)
        worker.lifeline.close()
        metrics_files.absorb(self._shared, worker.process.pid)
        time.sleep(max(0.0, worker.started + _RESTART_SECONDS - time.monotonic()))
        return self._start(worker.replica_id)

    def _end(self) -> None:
        for worker in self._workers:
            if worker.process.poll() is None:
                worker.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain_seconds + _KILL_AFTER
        for worker in self._workers:
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.process.wait(max(0.0, deadline - time.monotonic()))


def _read(worker: _Worker, stream: Any) -> None:
    """Read what a worker has written, to its standard output or to its lifeline."""
    chunk = os.read(stream.fileno(), 4096)
    if stream is not worker.lifeline:
        worker.line += chunk
    elif chunk:
        worker.beat = time.monotonic()
        worker.name += chunk.replace(b".", b"")
    if not chunk:
        time.sleep(_POLL_SECONDS)  # it has closed its end, and will be found to have ended
