"""The emulator as an object: for tests in the same process, and for the command."""

from __future__ import annotations

import asyncio
import os
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

import grpc

from sealwright_testing.emulators.calls import CallLog
from sealwright_testing.emulators.faultbook import ANY, FaultBook

from .calls import CallRecord
from .faults import Fault, FaultKind
from .server import KmsHandler
from .specs import SPECS
from .store import KeyStore
from .tls import Authority

DEFAULT_HOST: Final = "127.0.0.1"
DEFAULT_PROJECT: Final = "sealwright-test"
DEFAULT_LOCATION: Final = "europe-west1"
DEFAULT_KEY_RING: Final = "tokens"
THREADS: Final = 96
"""Calls at once, including those that hang."""
_RESTART_TRIES: Final = 50
_RESTART_PAUSE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionSummary:
    """A key version, for assertions.

    Attributes:
        name: Resource name.
        state: CryptoKeyVersionState.
        algorithm: CryptoKeyVersionAlgorithm.
        protection: ProtectionLevel.
        labels: Labels of its CryptoKey.
    """

    name: str
    state: str
    algorithm: str
    protection: str
    labels: Mapping[str, str]


class GcpEmulator:
    """Google Cloud KMS with one key ring to start with.

    ```python
    with GcpEmulator() as emulator:
        settings = GcpSettings(project=emulator.project, location=emulator.location, key_ring=emulator.key_ring,
                               endpoint=emulator.address, insecure_endpoint=True)
        emulator.add_fault("throttle", operation="AsymmetricSign", times=2)
    ```

    It runs in threads of its own, since gRPC for asyncio does not bear two event loops in one process well. All methods may be
    called from any thread. Keys live in memory and end with the emulator.

    Args:
        host: The address to listen on. Leave it on loopback.
        port: The port; 0 takes a free one.
        project: ID of the project of the key ring.
        location: Location of the key ring.
        key_ring: The key ring.
        tls: Whether to speak TLS, with a certificate of an authority that only this emulator has.
        authorize: Whether requests need a bearer token; None: with TLS they do.
        names: DNS names in the certificate.
    """

    def __init__(
        self,
        *,
        host: str = DEFAULT_HOST,
        port: int = 0,
        project: str = DEFAULT_PROJECT,
        location: str = DEFAULT_LOCATION,
        key_ring: str = DEFAULT_KEY_RING,
        tls: bool = False,
        authorize: bool | None = None,
        names: tuple[str, ...] = ("localhost",),
    ) -> None:
        self.project, self.location, self.key_ring = project, location, key_ring
        self.ring = f"projects/{project}/locations/{location}/keyRings/{key_ring}"
        self.store = KeyStore()
        self.store.add_ring(self.ring)
        self.book = FaultBook[Fault]()
        self.log = CallLog[CallRecord](lambda record: record.name or None)
        self._host, self._port = host, port
        self._handler = KmsHandler(self.store, self.book, self.log, self._restart_soon)
        self._handler.authorize = tls if authorize is None else authorize
        self._authority = Authority(names) if tls else None
        self._server: grpc.Server | None = None
        self._lock = threading.Lock()
        self._restarts: list[threading.Thread] = []

    @property
    def address(self) -> str:
        """`host:port`, to give to a client, once started."""
        return f"{self._host}:{self._port}"

    @property
    def endpoint(self) -> str:
        """The address as a URL, once started."""
        return f"{'http' if self._authority is None else 'https'}://{self.address}"

    @property
    def ca(self) -> bytes:
        """Certificate of the authority that clients must trust, PEM; empty without TLS."""
        return b"" if self._authority is None else self._authority.ca

    @property
    def calls(self) -> Mapping[str, int]:
        """How often each operation was asked for since the start or `reset_calls`, refused requests too."""
        return MappingProxyType(self.log.counts())

    @property
    def requests(self) -> tuple[CallRecord, ...]:
        """The last 1000 requests, oldest first."""
        return self.log.records()

    @property
    def versions(self) -> tuple[VersionSummary, ...]:
        """All key versions, in order of creation; those of hidden keys too."""
        now = self.store.clock.now()
        with self.store.lock:
            return tuple(
                VersionSummary(
                    name=v.name,
                    state=v.state(now),
                    algorithm=v.algorithm,
                    protection=v.protection,
                    labels=MappingProxyType(dict(k.labels)),
                )
                for k in self.store.keys.values()
                for v in k.versions.values()
            )

    def reset_calls(self) -> None:
        """Forget the counts and the requests."""
        self.log.reset()

    def add_fault(self, kind: FaultKind | str, *, operation: str = ANY, **options: Any) -> Fault:
        """Arm a fault, after those that are armed already.

        Args:
            kind: What goes wrong: a FaultKind or its value.
            operation: For which operation; `*` for all.
            options: The other attributes of Fault.

        Raises:
            ValueError: There is no such kind, or the options make no sense with it.
            TypeError: There is no such option.
        """
        fault = Fault(kind=FaultKind(kind), operation=operation, **options)
        self.book.add(fault)
        return fault

    def clear_faults(self) -> None:
        """Disarm all faults, and end the calls that hang."""
        self.book.clear()
        self._handler.release()

    def accept_tokens(self, *tokens: str) -> None:
        """Accept only these bearer tokens from now on; without any: every token."""
        self._handler.tokens = frozenset(tokens) or None

    def set_quota(self, quota: str, per_second: int | None) -> None:
        """Permit that many requests per second of a quota: `read`, `write` or `crypto`; None: any number."""
        if quota not in {"read", "write", "crypto"}:
            raise ValueError(f"there is no quota {quota!r}")
        if per_second is None:
            self._handler.quotas.pop(quota, None)
        else:
            self._handler.quotas[quota] = per_second

    def set_state(self, version: str, state: str) -> None:
        """Put a version into any CryptoKeyVersionState.

        Raises:
            KeyError: There is no such version.
        """
        found = self._version(version)
        found.set_state, found.destroy_time = state, None

    def add_version(self, crypto_key: str) -> str:
        """Create another version of a CryptoKey, as anybody with the permission can, and return its name.

        Raises:
            KeyError: There is no such key.
        """
        with self.store.lock:
            key = self.store.keys[crypto_key]
            material = SPECS[key.algorithm].generate()
            return self.store.add_version(key, material, pending_seconds=0.0, failed=False).name

    def mark_imported(self, version: str) -> None:
        """Have a version say that its material was imported.

        Raises:
            KeyError: There is no such version.
        """
        self._version(version).import_job = f"{self.ring}/importJobs/job"

    def advance_clock(self, seconds: float) -> None:
        """Move the clock that keys live by: visibility, generation, destruction."""
        self.store.clock.advance(seconds)

    def listen(self) -> None:
        """Listen. Afterwards `address` accepts connections.

        Raises:
            OSError: The address cannot be listened on.
        """
        executor = ThreadPoolExecutor(THREADS, thread_name_prefix="gcp-emulator")
        ready = threading.Barrier(THREADS)
        for _ in range(THREADS):
            # Every thread exists from the start, so that tests which count threads see no new ones.
            executor.submit(ready.wait)
        # Without reuse of ports, a port in use is an error.
        server = grpc.server(executor, handlers=[self._handler], options=[("grpc.so_reuseport", 0)])
        address = f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"
        try:
            if self._authority is None:
                self._port = server.add_insecure_port(address)
            else:
                pair = (self._authority.key, self._authority.certificate)
                self._port = server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
        except RuntimeError as error:
            executor.shutdown()
            raise OSError(0, "the address is in use or cannot be used") from error
        server.start()
        self._server = server

    def close(self) -> None:
        """Stop listening and close all connections. Harmless where it is stopped already."""
        with self._lock:
            server, self._server = self._server, None
            if server is not None:
                self._stop(server)
        for thread in self._restarts:
            if thread is not threading.current_thread():
                thread.join()
        self._restarts.clear()

    def restart(self) -> None:
        """Close all connections, and listen again on the same port."""
        with self._lock:
            server, self._server = self._server, None
            if server is None:
                return
            self._stop(server)
            for tries in range(_RESTART_TRIES):
                try:
                    self.listen()
                except OSError:
                    if tries == _RESTART_TRIES - 1:
                        raise
                    time.sleep(_RESTART_PAUSE)
                else:
                    return

    async def start(self) -> None:
        """Listen. See `sealwright_testing.emulators.serving.Emulator`."""
        await asyncio.to_thread(self.listen)

    async def stop(self) -> None:
        """Stop listening."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        """Start."""
        self.listen()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self.close()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        await self.stop()

    def write_ca(self) -> str:
        """Write the certificate of the authority to a new temporary file, and return its path."""
        handle, path = tempfile.mkstemp(prefix="gcp-emulator-ca-", suffix=".pem")
        os.close(handle)
        Path(path).write_bytes(self.ca)
        return path

    def _version(self, name: str) -> Any:
        with self.store.lock:
            for key in self.store.keys.values():
                if name in key.versions:
                    return key.versions[name]
        raise KeyError(f"no version {name}")

    def _stop(self, server: grpc.Server) -> None:
        stopped = server.stop(None)
        self._handler.release()
        stopped.wait()

    def _restart_soon(self) -> None:
        thread = threading.Thread(target=self.restart, name="gcp-emulator-restart", daemon=True)
        self._restarts.append(thread)
        thread.start()
