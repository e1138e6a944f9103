"""The top: builds the whole service from a configuration, for the server and for tests alike."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from datetime import datetime
from pathlib import Path
from typing import Final

from sealwright import __version__, metrics
from sealwright.access.grants import Authoriser
from sealwright.audit.decisions import Audit
from sealwright.audit.refusals import RefusalLimit
from sealwright.audit.witness_file import WitnessFile
from sealwright.audit.writer import AuditWriter
from sealwright.clock import Clock, SystemClock, boot_id
from sealwright.config import Config, problems_with_store
from sealwright.errors import ConfigurationError
from sealwright.ids import host_name, uuid7
from sealwright.keys.changes import KeyChanges
from sealwright.keys.health import KeyHealth
from sealwright.keys.keyring import Keyring
from sealwright.keys.levels import KeyLevels
from sealwright.keys.operations import KeyOperations
from sealwright.keys.orphans import Orphans, find_orphans
from sealwright.keys.readiness import Readiness
from sealwright.keys.replica import ReplicaSync
from sealwright.keys.revocation import KeyRevocation
from sealwright.keys.rotation import Rotator
from sealwright.keys.token_counts import TokenCounts
from sealwright.keys.witness import StoreRefusedError, WitnessUnreadableError
from sealwright.kms.guard import GuardedProvider
from sealwright.kms.registry import load_factory
from sealwright.server import descriptors
from sealwright.server.http.admin import AdminPages
from sealwright.server.http.listener import HttpListener
from sealwright.server.http.public import PublicPages
from sealwright.server.rpc.authentication import Authentication
from sealwright.server.rpc.caller_certificates import CallerCertificates
from sealwright.server.rpc.interceptors import Boundary
from sealwright.server.rpc.jwks import JwksService
from sealwright.server.rpc.keys import KeyService
from sealwright.server.rpc.listener import AddServices, GrpcListener
from sealwright.server.rpc.signing import SigningService
from sealwright.signing import Signer
from sealwright.sql.store import SqlStore
from sealwright.turns import Turns
from sealwright.v1.jwks_pb2_grpc import add_JwksServiceServicer_to_server
from sealwright.v1.keys_pb2_grpc import add_KeyServiceServicer_to_server
from sealwright.v1.signing_pb2_grpc import add_SigningServiceServicer_to_server
from sealwright.verifying import Verifier

log = logging.getLogger(__name__)

START_SECONDS: Final = 45.0
"""How long a start waits for the issuers to be able to sign."""
_HEALTH_INTERVAL: Final = 0.2
_HEALTH_SHARE: Final = 50
"""How many times as long as a look at all issuers takes is the pause before the next."""
_AUDIT_INTERVAL: Final = 1.0
_LOGGED_ISSUERS: Final = 50


class App:
    """One worker's service: `start`, then `stop`.

    Attributes:
        replica_id: Names this start of the worker.
        audit: Records its decisions.
        keyring: What it signs and publishes with.
        rotator: Moves keys on.
        readiness: Which issuers can sign.
    """

    def __init__(
        self, config: Config, clock: Clock, boot: str, *, share_ports: bool, forget: str | None = None
    ) -> None:
        self._config = config
        self._forget = forget
        self._share_ports = share_ports
        self._clock = clock
        self.replica_id = uuid7()
        self.keyring = Keyring(config.issuers, config.timing, clock, boot)
        self._authoriser = Authoriser(config.grants)
        self._turns = Turns()
        self._alive = True
        self._settled = False
        self._closers = contextlib.AsyncExitStack()
        self._jobs: list[asyncio.Task[None]] = []
        self._providers: dict[str, GuardedProvider] = {}

    async def start(self) -> None:
        """Open the store, the audit, the providers and the listeners, and begin to rotate.

        Raises:
            ConfigurationError: Something that the configuration names cannot be used.
            StoreUnavailableError: The store cannot be opened.
        """
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> None:
        config, clock = self._config, self._clock
        store = await SqlStore.open(config.store)
        self._closers.push_async_callback(store.aclose)
        if self._forget is not None:
            await store.farewell(self._forget)
        writer = AuditWriter(config.audit, self.replica_id, clock)
        self._closers.push_async_callback(writer.aclose)
        self.audit = audit = Audit(writer, RefusalLimit(config.audit.refusals_per_minute, clock))
        counts = TokenCounts(store)
        witness = WitnessFile(Path(config.audit.path))
        sync = ReplicaSync(
            self.replica_id,
            store,
            self.keyring,
            counts,
            witness=witness,
            timing=config.timing,
            clock=clock,
            host=host_name(),
            count=self._count_replicas if any(p.max_calls_per_second for p in config.providers.values()) else None,
        )
        self._closers.push_async_callback(sync.farewell)
        await self._open_providers()
        self.rotator = Rotator(
            store=store,
            keyring=self.keyring,
            sync=sync,
            providers=self._providers,
            timing=config.timing,
            clock=clock,
            events=audit,
        )
        levels = KeyLevels(store=store, keyring=self.keyring, sync=sync, providers=self._providers, clock=clock)
        self.health = KeyHealth(self.keyring, self._providers, clock, sync.refresh)
        self.readiness = Readiness(self.keyring, self.health, self.rotator.creation.failing, clock, self._blocked)
        await store.enter(self.replica_id)
        with contextlib.suppress(StoreRefusedError):  # Readiness says why, and `sync.run` goes on asking.
            await sync.enter()
        if self.keyring.state is not None and (problems := list(problems_with_store(config, self.keyring.state))):
            raise ConfigurationError(problems)
        # Ended after the listeners: while calls drain, the keyring must be kept fresh.
        self._closers.push_async_callback(self._end_jobs)
        await self._listen(audit, self._services(store, sync, counts, audit))
        self._log_start()
        jobs = (
            sync.run(),
            store.listen(sync.wake),
            self.rotator.run(),
            levels.run(),
            self._report_health(),
            self._tend_audit(),
            self.health.run(),
        )
        self._jobs = [asyncio.create_task(job) for job in jobs]

    def _services(self, store: SqlStore, sync: ReplicaSync, counts: TokenCounts, audit: Audit) -> AddServices:
        """Build what the gRPC listener serves."""
        changes = KeyChanges(store, self.keyring, sync, audit)
        signer = Signer(
            keyring=self.keyring,
            providers=self._providers,
            authoriser=self._authoriser,
            counts=counts,
            health=self.health,
            clock=self._clock,
            turns=self._turns,
        )
        verifier = Verifier(
            keyring=self.keyring,
            authoriser=self._authoriser,
            max_clock_error=self._config.timing.max_clock_error,
        )
        revocation = KeyRevocation(
            store=store,
            keyring=self.keyring,
            sync=sync,
            changes=changes,
            disabling=self.rotator.disabling,
            timing=self._config.timing,
            wake=self.rotator.wake,
        )
        keys = KeyService(
            keyring=self.keyring,
            operations=KeyOperations(changes, self.rotator.wake),
            revocation=revocation,
            authoriser=self._authoriser,
        )

        def add(boundary: Boundary) -> None:
            add_SigningServiceServicer_to_server(SigningService(signer, verifier), boundary)
            add_JwksServiceServicer_to_server(JwksService(self.keyring), boundary)
            add_KeyServiceServicer_to_server(keys, boundary)

        return add

    async def _open_providers(self) -> None:
        for name in self._config.providers:
            guarded = await open_provider(self._config, name, self._clock)
            self._closers.push_async_callback(guarded.aclose)
            self._providers[name] = guarded

    async def _listen(self, audit: Audit, add_services: AddServices) -> None:
        settings = self._config.server
        callers = CallerCertificates()
        authentication = Authentication(
            self._clock,
            callers,
            local=settings.insecure_local and not settings.grpc_is_unix,
            unix=settings.grpc_is_unix,
        )
        boundary = Boundary(authentication, audit, self._turns)
        public = PublicPages(self.keyring, self.readiness, alive=lambda: self._alive)
        admin = AdminPages(public, self.keyring, self.readiness, self.rotator.disabling.undone, self._certificate_ends)
        tls = None if settings.http_is_plaintext else settings.tls
        share = self._share_ports
        limits = descriptors.limits(settings, descriptors.raise_limit())
        self._http = HttpListener("http", settings.http, public.page, limits["http"], tls=tls, share_port=share)
        self._admin = HttpListener(
            "admin", settings.admin, admin.page, limits["admin"], share_port=share, only_loopback=True
        )
        self._grpc = GrpcListener(settings, boundary, add_services, limits["grpc"], callers=callers, share_port=share)
        for listener in (self._http, self._admin):
            await listener.start()
            self._closers.push_async_callback(listener.close)
        await self._grpc.start()
        self._closers.push_async_callback(self._grpc.drain)

    def _certificate_ends(self) -> dict[str, datetime]:
        ends = {"grpc": self._grpc.certificate_end, "http": self._http.certificate_end}
        return {listener: end for listener, end in ends.items() if end is not None}

    def _log_start(self) -> None:
        """Log what this worker serves."""
        settings, at = self._config.server, self.addresses
        kind = "a Unix socket" if settings.grpc_is_unix else "plaintext" if settings.insecure_local else "mutual TLS"
        http = "plaintext" if settings.http_is_plaintext else "HTTPS"
        log.info(
            "sealwright %s serves: grpc on %s (%s), http on %s (%s), admin on %s",
            __version__,
            at["grpc"],
            kind,
            at["http"],
            http,
            at["admin"],
        )
        for name, provider in self._config.providers.items():
            log.info("provider %s: kind %s", name, provider.kind)
        for issuer in self._config.issuers[:_LOGGED_ISSUERS]:
            series = ", ".join(f"{s.name} ({s.algorithm} at {s.provider})" for s in issuer.series)
            log.info("issuer %s: %s; series %s", issuer.name, issuer.url, series)
        if len(self._config.issuers) > _LOGGED_ISSUERS:
            log.info("and %d more issuers", len(self._config.issuers) - _LOGGED_ISSUERS)

    @property
    def addresses(self) -> dict[str, str]:
        """The real addresses of the listeners: `grpc`, `http` and `admin`."""
        addresses = {"grpc": self._grpc.address, "http": self._http.address, "admin": self._admin.address}
        return {name: str(address) for name, address in addresses.items()}

    async def wait_until_useful(self, seconds: float = START_SECONDS) -> None:
        """Wait until every issuer can sign, or is blocked by something that waiting will not fix soon."""
        await self.readiness.wait(seconds)
        self._settled = True
        await self._update_health()

    def reopen(self) -> None:
        """Open the audit file again before the next record."""
        log.info("opening the audit file again")
        self.audit.reopen()

    async def stop(self) -> None:
        """Refuse new calls, let those under way end, and close everything, the listeners first. It may be called twice."""
        self._alive = False
        await self._closers.aclose()

    async def _report_health(self) -> None:
        while True:
            began = self._clock.elapsed()
            problems = self.readiness.problems()
            await self._grpc.set_serving(signing=not any(problems.values()))
            if self._settled:
                self.readiness.log_changes(problems)
            # With thousands of issuers, this takes long.
            await asyncio.sleep(max(_HEALTH_INTERVAL, _HEALTH_SHARE * (self._clock.elapsed() - began)))

    def _count_replicas(self, number: int) -> None:
        for provider in self._providers.values():
            if provider.pace is not None:
                provider.pace.share(max(1, number))

    def _blocked(self) -> str | None:
        return None if self.audit.failure is None else "the audit record cannot be written"

    async def _tend_audit(self) -> None:
        while True:
            await self.audit.tick()
            metrics.tend()
            await asyncio.sleep(_AUDIT_INTERVAL)

    async def _update_health(self) -> None:
        await self._grpc.set_serving(signing=not self.readiness.unable())

    async def _end_jobs(self) -> None:
        for job in self._jobs:
            job.cancel()
        await asyncio.gather(*self._jobs, return_exceptions=True)


async def open_provider(config: Config, name: str, clock: Clock) -> GuardedProvider:
    """Open a configured provider.

    Raises:
        ConfigurationError: It cannot be used.
    """
    settings = config.providers[name]
    factory = load_factory(settings.kind, config.plugins)
    return GuardedProvider(name, await factory.open(settings), settings, clock)


async def orphans(config: Config) -> Orphans:
    """Search the KMSs of a configuration for keys that its store does not know. The service may be running.

    If the store is another one than that whose keys were published from here, the keys of that one are orphans too.

    Raises:
        ConfigurationError: Something that the configuration names cannot be used.
        StoreUnavailableError: The store cannot be opened or read.
    """
    async with contextlib.AsyncExitStack() as closers:
        store = await SqlStore.open(config.store, upgrade=False)
        closers.push_async_callback(store.aclose)
        providers: dict[str, GuardedProvider] = {}
        for name in config.providers:
            providers[name] = await open_provider(config, name, SystemClock())
            closers.push_async_callback(providers[name].aclose)
        witness = None
        with contextlib.suppress(WitnessUnreadableError):
            witness = WitnessFile(Path(config.audit.path)).read()
        return await find_orphans(await store.read(), providers, witness.deployment_id if witness else None)


async def unblock(config: Config, provider: str) -> bool:
    """Permit a provider to create keys again, after all of its keys were revoked. Return whether it was blocked.

    Raises:
        ConfigurationError: The store is missing or out of date.
        StoreUnavailableError: The store cannot be opened or written.
    """
    store = await SqlStore.open(config.store, upgrade=False)
    async with contextlib.aclosing(store):
        return await store.unblock(provider)


def build(config: Config, clock: Clock | None = None, *, share_ports: bool = False, forget: str | None = None) -> App:
    """Wire a service. Nothing is opened before `App.start`.

    Args:
        config: A checked configuration.
        clock: For tests; None: the machine's clock.
        share_ports: Whether other workers listen on the same ports (SO_REUSEPORT).
        forget: The replica in whose place this one is started. It has ended, so its row in the store is deleted.
    """
    # The stopwatch of another clock has no meaning for other processes.
    boot = (clock is None and boot_id()) or uuid7()
    return App(config, clock or SystemClock(), boot, share_ports=share_ports, forget=forget)
