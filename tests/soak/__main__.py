"""Rotates every few seconds while everything fails, and shows that no verifier notices.

    PYTHONPATH=tests python -m soak [--seconds 180] [--seed N] [--without lead|tail|release-check] [--calm] [--keep]

Exit status: 0; or 1 if a promise was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import shutil
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import aiohttp

from interop.secure_support import readable_directory

from . import checks
from .chaos import Chaos
from .database import Pair, pair
from .hosts import ISSUERS, PROVIDERS, Host
from .kms import Kms
from .ledger import Ledger
from .load import CALLERS, HASTY_CALLERS, Load
from .network import Proxy, Target
from .replica import RULES, SOUND
from .shared_cache import SharedCache
from .verifiers import Verifiers

HOSTS = ("one", "two", "three")
_RECOVERY_SECONDS = 60


class Soak:
    """One run."""

    def __init__(self, options: argparse.Namespace, database: Pair, directory: Path) -> None:
        self._options = options
        self._database = database
        self._directory = directory
        self._random = Random(options.seed)  # noqa: S311 - nothing is secret here
        self.ledger = Ledger()

    async def run(self) -> None:
        """Run for as long as was asked for, mend everything, and check what is left. SIGTERM ends it, and what it has started."""
        if (task := asyncio.current_task()) is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(aiohttp.ClientSession())
            kms = [await asyncio.to_thread(Kms, self._directory, name, http) for name in PROVIDERS]
            for one in kms:
                stack.callback(one.stop)
            self._hosts = await self._start_hosts(stack, kms)
            await asyncio.wait_for(self._all_ready(), _RECOVERY_SECONDS)
            balancer = await stack.enter_async_context(Proxy(self._any_host))
            to_cache = await stack.enter_async_context(Proxy(self._any_host))
            cache = await stack.enter_async_context(SharedCache(f"http://127.0.0.1:{to_cache.port}"))
            verifiers = Verifiers(self.ledger, self._fork())
            addresses = (f"127.0.0.1:{balancer.port}", f"127.0.0.1:{cache.port}")
            await stack.enter_async_context(verifiers.running(self._directory, *addresses))
            hasty = self._options.without == "lead"
            load = Load(self._hosts, self.ledger, self._fork(), verifiers.show, hasty=hasty)
            chaos = Chaos(
                hosts=self._hosts,
                database=self._database,
                kms=kms,
                doors=[balancer, to_cache],
                load=load,
                ledger=self.ledger,
                rng=self._fork(),
            )
            await self._disturb(load, chaos, verifiers)
            if self._options.without == SOUND or not self.ledger.violations:
                await self._settle(load, kms, http)
            else:
                await self._end_callers()
            self.ledger.counts["answers of the shared cache"] = cache.served
            self.ledger.count("at the end", "starts of replicas", sum(h.starts for h in self._hosts))

    async def _start_hosts(self, stack: AsyncExitStack, kms: list[Kms]) -> list[Host]:
        targets = {one.name: one.target for one in kms}
        hosts = [Host(self._directory, name, targets, self.ledger, self._options.without) for name in HOSTS]
        for host in hosts:
            await host.open(stack, self._database.sockets)
            stack.push_async_callback(host.abandon)
        return hosts

    def _fork(self) -> Random:
        return Random(self._random.random())  # noqa: S311 - nothing is secret here

    def _any_host(self) -> list[Target]:
        return [h.http for h in self._random.sample(self._hosts, len(self._hosts))]

    async def _all_ready(self) -> None:
        for host in self._hosts:
            await host.until_ready()

    async def _disturb(self, load: Load, chaos: Chaos, verifiers: Verifiers) -> None:
        """Let callers call, an operator operate, and things go wrong."""
        number = HASTY_CALLERS if load.hasty else CALLERS
        callers = [asyncio.ensure_future(job) for job in (*(load.call() for _ in range(number)), load.operate())]
        trouble = asyncio.ensure_future(chaos.calm() if self._options.calm else chaos.run())
        end = time.monotonic() + self._options.seconds
        done: set[asyncio.Future[None]] = set()
        # A run that is to fail ends as soon as it has.
        while not done and time.monotonic() < end and (self._options.without == SOUND or not self.ledger.violations):
            jobs = [trouble, *callers, *verifiers.jobs]
            done, _ = await asyncio.wait(jobs, timeout=0.5, return_when="FIRST_COMPLETED")
        trouble.cancel()
        await asyncio.gather(trouble, return_exceptions=True)
        for job in done:
            job.result()
        self._callers = callers

    async def _end_callers(self) -> None:
        for job in self._callers:
            job.cancel()
        await asyncio.gather(*self._callers, return_exceptions=True)

    async def _settle(self, load: Load, kms: list[Kms], http: aiohttp.ClientSession) -> None:
        """Wait until all hosts sign again, and let the last tokens be verified; then check everything."""
        await self._recover(load)
        load.stopping = True
        await asyncio.gather(*self._callers)
        await asyncio.sleep(max(0.0, max(t.expires for t in self.ledger.tokens) - time.time()))
        await checks.same_sets(self._hosts, http, self.ledger)
        await checks.no_orphans(kms, self._database, self._hosts[0].config, self.ledger)
        retired = await asyncio.to_thread(self._database.execute, "SELECT count(*) FROM keys WHERE retire_time > 0")
        self.ledger.count("at the end", "rotations", int(retired))
        for host in self._hosts:
            status = await host.stop()
            if status:
                self.ledger.violate("a replica that does not end by SIGTERM as it should", f"{host.name}: {status}")
        checks.audited(self._hosts, self.ledger)
        checks.not_idle(self.ledger, self._options.seconds, int(retired))

    async def _recover(self, load: Load) -> None:
        end = time.monotonic() + _RECOVERY_SECONDS
        waiting = [(host, issuer) for host in self._hosts for issuer in ISSUERS]
        while waiting and time.monotonic() < end:
            waiting = [pair for pair in waiting if not await load.sign(*pair)]
        for host, issuer in waiting:
            self.ledger.violate("a replica that does not recover", f"{host.name}, {issuer}")


def say(text: str) -> None:
    """Print at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _sockets(folder: str, names: list[str]) -> set[str]:
    return {n for n in names if not (Path(folder, n).is_file() or Path(folder, n).is_dir())}


def main() -> int:
    """Run, print the table, and return the exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--without", choices=RULES, default=SOUND, help="a rule to take out: the run should fail")
    parser.add_argument("--calm", action="store_true", help="nothing fails, but keys are rotated and revoked")
    parser.add_argument("--keep", action="store_true", help="keep the logs and audits, as after a failure")
    options = parser.parse_args()
    options.seed = secrets.randbelow(10**6) if options.seed is None else options.seed
    say(f"soak: {options.seconds:.0f} s, SEED={options.seed}")
    with pair() as database, readable_directory() as directory:
        soak = Soak(options, database, directory)
        try:
            asyncio.run(soak.run())
        finally:
            if soak.ledger.violations or sys.exc_info()[0] or options.keep:
                kept = shutil.copytree(directory, f"build/soak-{options.seed}", dirs_exist_ok=True, ignore=_sockets)
                say(f"soak: the logs and audits are in {kept}")
    say("\n".join(soak.ledger.lines()))
    say(f"soak: {'BROKEN' if soak.ledger.violations else 'held'}, SEED={options.seed}")
    return int(bool(soak.ledger.violations))


if __name__ == "__main__":
    sys.exit(main())
