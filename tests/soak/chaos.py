"""Misfortunes, in an order and for times that a seed decides."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random

from .database import BEHIND, KILL, Pair
from .hosts import CLOCK_ERROR, ISSUERS, Host
from .kms import Kms
from .ledger import Ledger
from .load import Load
from .network import Proxy

Misfortune = Callable[[], Awaitable[None]]
REVOCATION = "a revocation while the KMS is slow"
AT_ONCE = 2
"""Misfortunes that happen side by side."""


class Chaos:
    """What goes wrong."""

    def __init__(
        self,
        *,
        hosts: Sequence[Host],
        database: Pair,
        kms: Sequence[Kms],
        doors: Sequence[Proxy],
        load: Load,
        ledger: Ledger,
        rng: Random,
    ) -> None:
        """Prepare.

        Args:
            hosts: The hosts.
            database: Their database.
            kms: Their KMSs.
            doors: The ways of verifiers to the service: the balancer's, and the shared cache's.
            load: What revokes keys.
            ledger: Takes notes.
            rng: Decides.
        """
        self._hosts, self._database, self._kms, self._doors = hosts, database, kms, doors
        self._load, self._ledger, self._rng = load, ledger, rng
        self._of_database = asyncio.Lock()
        self._of_host = {h.name: asyncio.Lock() for h in hosts}
        self._of_kms = {k.name: asyncio.Lock() for k in kms}
        self.deck: dict[str, Misfortune] = {
            "kill -9 of a replica": self._kill,
            "kill -9 of all replicas": self._kill_all,
            "SIGSTOP of a replica": self._pause,
            "a replica cut off from the database": self._cut,
            "connections to the database killed": self._kill_sessions,
            "the database stopped": self._stop_database,
            "failover of the database": self._fail_over,
            "a KMS that answers with errors": self._kms_errors,
            "a KMS that hangs": self._kms_hangs,
            "answers of CreateKey lost": self._lost_answers,
            "a replica cut off from a KMS": self._cut_kms,
            "a clock that is set wrong": self._wrong_clock,
            "connections of callers and verifiers killed": self._kill_connections,
            "verifiers cut off from the service": self._cut_verifiers,
            REVOCATION: self._slow_revocation,
        }

    async def run(self) -> None:
        """Let things go wrong until cancelled; each kind once, before any happens again."""
        gate = asyncio.Semaphore(AT_ONCE)
        running: set[asyncio.Task[None]] = set()
        try:
            while True:
                order = list(self.deck.items())
                self._rng.shuffle(order)
                for name, misfortune in order:
                    await gate.acquire()
                    job = asyncio.ensure_future(self._happen(name, misfortune, gate))
                    running.add(job)
                    job.add_done_callback(running.discard)
                    await asyncio.sleep(self._rng.uniform(0.3, 2.0))
        finally:
            # A misfortune mends what it breaks: let it.
            for outcome in await asyncio.gather(*running, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    async def calm(self) -> None:
        """Let nothing go wrong but what shows that a key may have been revoked while it signed."""
        while True:
            await self._slow_revocation()
            await asyncio.sleep(1)

    async def _happen(self, name: str, misfortune: Misfortune, gate: asyncio.Semaphore) -> None:
        try:
            await misfortune()
            if name != REVOCATION:  # which counts those that there was a key for
                self._ledger.count("misfortunes", name)
        finally:
            gate.release()

    def _while(self, shortest: float, longest: float) -> Awaitable[None]:
        return asyncio.sleep(self._rng.uniform(shortest, longest))

    @asynccontextmanager
    async def _a_host(self) -> AsyncIterator[Host]:
        """Give one host, to which nothing else of its own happens meanwhile."""
        host = self._rng.choice(self._hosts)
        async with self._of_host[host.name]:
            yield host

    @asynccontextmanager
    async def _trouble(self, *hosts: Host) -> AsyncIterator[None]:
        with self._ledger.trouble(*(h.name for h in hosts)):
            yield

    # -- replicas -----------------------------------------------------------------------------------

    async def _kill(self) -> None:
        async with self._a_host() as host:
            host.signal(signal.SIGKILL)

    async def _kill_all(self) -> None:
        for host in self._hosts:
            host.signal(signal.SIGKILL)
        await self._while(0, 1)

    async def _pause(self) -> None:
        async with self._a_host() as host, self._trouble(host):
            host.signal(signal.SIGSTOP)
            await self._while(0.5, 7)
            host.signal(signal.SIGCONT)
            await asyncio.sleep(1)

    async def _wrong_clock(self) -> None:
        async with self._a_host() as host:
            host.set_clock(self._rng.choice((-3600, -30, -3, 3, 30, 3600)))
            await self._while(2, 6)
            host.set_clock(self._rng.uniform(BEHIND - CLOCK_ERROR, CLOCK_ERROR - BEHIND) - BEHIND / 2)

    # -- the database -------------------------------------------------------------------------------

    async def _cut(self) -> None:
        async with self._a_host() as host, self._trouble(host):
            for proxy in host.database:
                proxy.cut()
            await self._while(1, 8)
            for proxy in host.database:
                proxy.mend()
                proxy.kill()
            await asyncio.sleep(1)

    async def _kill_sessions(self) -> None:
        async with self._of_database:
            await asyncio.to_thread(self._database.execute, KILL)

    async def _stop_database(self) -> None:
        async with self._of_database, self._trouble(*self._hosts):
            await asyncio.to_thread(self._database.stop)
            await self._while(0.5, 5)
            await asyncio.to_thread(self._database.start)
            await asyncio.sleep(1)

    async def _fail_over(self) -> None:
        async with self._of_database, self._trouble(*self._hosts):
            await asyncio.to_thread(self._database.stop)
            await self._while(0, 2)
            await asyncio.to_thread(self._database.promote)
            await asyncio.to_thread(self._database.rebuild)

    # -- the KMSs -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def _a_kms(self) -> AsyncIterator[Kms]:
        kms = self._rng.choice(self._kms)
        async with self._of_kms[kms.name]:
            with self._ledger.illness(kms.name):
                yield kms
                await kms.heal()

    async def _kms_errors(self) -> None:
        async with self._a_kms() as kms:
            kind = self._rng.choice(("http_500", "drop_connection", "throttle", "malformed_json"))
            await kms.fault(kind, **({} if self._rng.randrange(2) else {"operation": "Sign"}))
            await self._while(1, 5)

    async def _kms_hangs(self) -> None:
        async with self._a_kms() as kms:
            kms.pause()
            await self._while(1, 5)
            kms.resume()

    async def _lost_answers(self) -> None:
        async with self._a_kms() as kms:
            kind = self._rng.choice(("drop_connection", "http_500", "hang"))
            await kms.fault(kind, operation="CreateKey", after=True, times=3)
            await kms.fault("not_yet_visible", operation="*", seconds=1.0)
            await self._while(3, 8)

    async def _cut_kms(self) -> None:
        async with self._a_host() as host:
            name, proxy = self._rng.choice(list(host.kms.items()))
            with self._ledger.illness(f"{host.name}/{name}"):
                proxy.cut()
                await self._while(1, 5)
                proxy.mend()
                proxy.kill()

    async def _slow_revocation(self) -> None:
        """Revoke a key while its KMS takes its time over signatures with it."""
        async with self._a_kms() as kms:
            for issuer in self._rng.sample(list(ISSUERS), len(ISSUERS)):
                key = await self._load.revocable_signer(issuer, kms.name)
                if key is not None:
                    break
            else:
                return
            await kms.fault("delay", operation="Sign", seconds=2.5, after=True)
            # These are being signed when the key is revoked.
            signing = [asyncio.ensure_future(self._load.sign(h, issuer)) for h in self._hosts for _ in range(2)]
            try:
                await asyncio.sleep(0.5)
                await self._load.revoke(issuer, key)
                await asyncio.gather(*signing)
            finally:
                for one in signing:
                    one.cancel()
            self._ledger.count("misfortunes", REVOCATION)

    # -- callers and verifiers ----------------------------------------------------------------------

    async def _kill_connections(self) -> None:
        for proxy in (*self._doors, *(h.front for h in self._hosts)):
            self._ledger.count("connections killed", "all", proxy.kill())
        for host in self._hosts:
            for proxy in (*host.kms.values(), *host.database):
                self._ledger.count("connections killed", "all", proxy.kill())

    async def _cut_verifiers(self) -> None:
        door = self._rng.choice(self._doors)
        door.cut()
        await self._while(0.5, 5)
        door.mend()
        door.kill()
