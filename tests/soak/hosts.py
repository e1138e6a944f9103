"""The hosts: each runs one `sealwright serve`, started again when it ends, with files, a clock and connections of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc

from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from support.document import document, issuer, series
from support.processes import Process, write_config

from .database import BEHIND
from .ledger import Ledger
from .network import Proxy, Target

ISSUERS: Mapping[str, str] = {"payments": "ES256", "orders": "ES256", "users": "ES384"}
"""Issuers and their algorithms. Each has a series at both KMSs."""

PROVIDERS = ("near", "far")
SERIES = tuple(f"{provider}-keys" for provider in PROVIDERS)
"""In order of preference."""

MAX_AGE, STALE_IF_ERROR, STALENESS, SERVE_AGE, SKEW, LIFETIME = 1, 1, 3, 6, 2, 10
"""Seconds. The lead is 9, the tail 17 and the scheduled wait 12."""
CLOCK_ERROR = 1.0
CACHED = 2 * (MAX_AGE + STALE_IF_ERROR)
"""How long caches and verifiers may use a set after a replica last served it."""
_TIMING = {
    "max_clock_error": f"{CLOCK_ERROR:.0f}s",
    "verifier_skew": f"{SKEW}s",
    "max_staleness": f"{STALENESS}s",
    "max_serve_age": f"{SERVE_AGE}s",
    "refresh_interval": "200ms",
    "verifier_refresh": "0s",
}
TESTS = Path(__file__).parents[1]
_RESTART_SECONDS = 0.3
_GONE: Target = ("127.0.0.1", 1)
"""Nobody listens there."""


def configuration(directory: Path, store: str, kms: Mapping[str, int]) -> dict[str, Any]:
    """Return the configuration of a host.

    Args:
        directory: Its own.
        store: URL of the store.
        kms: The ports of the KMSs, by provider.
    """
    issuers = [
        issuer(
            name,
            max_lifetime=f"{LIFETIME}s",
            default_lifetime=f"{LIFETIME}s",
            jwks={"max_age": f"{MAX_AGE}s", "stale_if_error": f"{STALE_IF_ERROR}s"},
            series=[
                series(algorithm, name=name, provider=provider, min_lead="0s", rotation_period="1s")
                for name, provider in zip(SERIES, PROVIDERS, strict=True)
            ],
        )
        for name, algorithm in ISSUERS.items()
    ]
    found = document(directory, "", *issuers, timing=_TIMING, store={"url": store})
    found["providers"] = {
        name: {
            "kind": "aws",
            "region": "eu-west-1",
            "endpoint_url": f"http://127.0.0.1:{port}",
            "manage_timeout": "5s",
            "timeout": "4s",
        }
        for name, port in kms.items()
    }
    return found


class Host:
    """A host.

    Attributes:
        name: Its name.
        database: Its connections to the servers of the database.
        kms: Its connections to each KMS, by provider.
        front: The way to its gRPC listener, whose address never changes.
        signing: Calls it.
        keys: The same.
        starts: How often it has been started.
    """

    def __init__(self, directory: Path, name: str, kms: Mapping[str, Target], ledger: Ledger, without: str) -> None:
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        self._clock = self.directory / "clock"
        self.set_clock(-BEHIND / 2)
        self.database: list[Proxy] = []
        self.kms: dict[str, Proxy] = {}
        self.front = Proxy(lambda: [self._address("grpc")])
        self.starts = 0
        self._targets = kms
        self._ledger = ledger
        self._without = without
        self._process: Process | None = None
        self._stopping = False
        self._job: asyncio.Task[None] | None = None
        self.ready = asyncio.Event()

    async def open(self, stack: AsyncExitStack, sockets: Callable[[], list[Path]]) -> None:
        """Lay its connections, and start the service.

        Args:
            stack: Ends it all.
            sockets: Returns the sockets of the servers of the database.
        """
        await stack.enter_async_context(self.front)
        folders = []
        for number in range(len(sockets())):
            folder = self.directory / f"db{number}"
            folder.mkdir()
            folders.append(str(folder))
            proxy = Proxy(lambda n=number: [sockets()[n]], folder / ".s.PGSQL.5432")  # type: ignore[misc]
            self.database.append(await stack.enter_async_context(proxy))
        for name, target in self._targets.items():
            self.kms[name] = await stack.enter_async_context(Proxy(lambda t=target: [t]))  # type: ignore[misc]
        url = f"postgresql://postgres@/postgres?host={','.join(folders)}"
        ports = {name: proxy.port for name, proxy in self.kms.items()}
        self.document = configuration(self.directory, url, ports)
        self.config = write_config(self.directory, self.document)
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{self.front.port}", [("grpc.max_reconnect_backoff_ms", 500)])
        await stack.enter_async_context(channel)
        self.signing, self.keys = SigningServiceStub(channel), KeyServiceStub(channel)
        self._job = asyncio.ensure_future(self._keep_running())

    @property
    def http(self) -> Target:
        """Where it serves its JWK Sets."""
        return self._address("http")

    @property
    def audit(self) -> Path:
        """The directory of its audit."""
        return self.directory / "audit"

    async def until_ready(self) -> None:
        """Wait until the service is ready, or cannot be started."""
        assert self._job is not None
        waiting = asyncio.ensure_future(self.ready.wait())
        await asyncio.wait([waiting, self._job], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self._job.done():
            self._job.result()

    def set_clock(self, error: float) -> None:
        """Set its clock to the true time and so many seconds."""
        new = self._clock.with_suffix(".new")
        new.write_text(f"{error:.3f}")
        new.replace(self._clock)

    def signal(self, number: int) -> None:
        """Send a signal to the service, if it runs."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.signal(number)

    async def stop(self) -> int:
        """Stop the service for good, as an operator does, and return its exit status."""
        self._stopping = True
        process = self._process
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        status = 0 if process is None else await asyncio.to_thread(process.wait)
        await self.abandon()
        return status

    async def abandon(self) -> None:
        """End everything of it, at once."""
        self._stopping = True
        if self._job is not None:
            self._job.cancel()
            await asyncio.gather(self._job, return_exceptions=True)
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self._process.signal(signal.SIGKILL)
            await asyncio.to_thread(self._process.stop)
            self._process = None

    def _address(self, listener: str) -> Target:
        found = self._process.ready.get(listener) if self._process is not None else None
        if found is None:
            return _GONE
        host, _, port = str(found).rpartition(":")
        return host, int(port)

    async def _keep_running(self) -> None:
        """Start the service whenever it does not run, as a service manager does."""
        while not self._stopping:
            self.starts += 1
            process = Process(
                self.directory,
                *("python", "-m", "soak.replica", str(self._clock), self._without),
                "serve",
                "--config",
                self.config,
                "--log-level",
                "debug",
                env={"PYTHONPATH": str(TESTS)},
            )
            self._process = process
            # Shielded, since a thread cannot be cancelled: it ends with the process.
            if await asyncio.shield(asyncio.to_thread(_line_or_end, process)):
                self.ready.set()
            status = await asyncio.shield(asyncio.to_thread(process.popen.wait))
            self.ready.clear()
            if not self._stopping:
                self._ledger.count("ends of a replica", f"status {status}")
            if process.popen.stdout:
                process.popen.stdout.close()
            await asyncio.sleep(_RESTART_SECONDS)


def _line_or_end(process: Process) -> bool:
    """Wait until a service is ready, and return whether it is. Otherwise it has ended."""
    try:
        process.wait_ready()
    except AssertionError:
        process.popen.kill()
        return False
    return True
