"""What all gateways are started with and asked by."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from interop.interop_support import Realm
from interop.python_env import PythonEnv

_START_SECONDS = 20
_STOP_SECONDS = 10
HTTP_OK = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """What a gateway is made from.

    Attributes:
        directory: For its files; others than root can read it.
        env: Where the gateways are that come as wheels.
        realm: The service.
        issuers: Each gets a route of its own.
        cache_seconds: How long it keeps a JWK Set.
        obeys: Whether it keeps a set no longer than `Cache-Control` permits, also while it cannot fetch another one.
    """

    directory: Path
    env: PythonEnv
    realm: Realm
    issuers: Sequence[str]
    cache_seconds: int = 60
    obeys: bool = False


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running gateway.

    Attributes:
        routes: Port and path of an issuer's route.
        pid: Of the process that takes signals.
    """

    routes: Mapping[str, tuple[int, str]]
    pid: int

    def status(self, issuer: str, token: str) -> int:
        """Return what it answers to a request with a token; 0: it hung up."""
        port, path = self.routes[issuer]
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse().status
        except http.client.RemoteDisconnected:
            return 0
        finally:
            connection.close()


Start = Callable[[Setup], AbstractContextManager[Gateway]]


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody has now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]


@contextmanager
def foreground(
    setup: Setup,
    binary: str | Path,
    arguments: Sequence[str | Path],
    routes: Mapping[str, tuple[int, str]],
    env: Mapping[str, str] | None = None,
) -> Iterator[Gateway]:
    """Run a gateway until the end of the block."""
    log = setup.directory / f"{Path(binary).name}.log"
    with log.open("wb") as output:
        running = subprocess.Popen(  # noqa: S603 - what the lock file or the test machine has
            [str(part) for part in (binary, *arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=setup.directory,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        for port in {port for port, _ in routes.values()}:
            _wait_for(port, running, log)
        yield Gateway(routes, running.pid)
    finally:
        running.terminate()
        try:
            running.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait(_STOP_SECONDS)


def _wait_for(port: int, running: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        assert running.poll() is None, log.read_text()[-2000:]
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise AssertionError(f"it does not listen: {log.read_text()[-2000:]}")
