"""What replicas on PostgreSQL cost, and how soon a change reaches all of them.

    python benchmarks/replicas.py                            # 1,000 issuers x 2 series, 3 replicas: about five minutes
    python benchmarks/replicas.py --issuers 50 --seconds 5   # to try it

A real PostgreSQL, an emulated AWS KMS and the replicas are processes of their own on this machine. The first replica creates all
keys.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from benchmark_load import cpu_seconds

from sealwright.keys.ports import IssuerState
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright_testing.postgres import PostgresServer, postgres, postgres_binaries
from support.databases import upgraded
from support.document import document, issuer
from support.processes import Process, process, write_config

ALGORITHMS = ("ES256", "ES384", "RS256", "PS256")
PATIENCE = 1200.0
LOGGED = re.compile(r"^LOG:  (?:statement|execute <unnamed>): ", re.MULTILINE)

Figure = tuple[str, str, str, float, str]
"""A name, a text, a target, a value and its unit: what `Results.value` in `bench.py` takes."""


@dataclass(frozen=True)
class Size:
    """What is run, and for how long.

    Attributes:
        issuers: Number of issuers.
        series: Number of series of each, at most four.
        replicas: Number of replicas, each as if on a host of its own.
        seconds: How long idle replicas are watched, twice.
        changes: How many changes are timed.
    """

    issuers: int = 1000
    series: int = 2
    replicas: int = 3
    seconds: float = 30
    changes: int = 30

    @property
    def keys(self) -> int:
        """The number of keys."""
        return self.issuers * self.series * 2


def measure(size: Size) -> Iterator[Figure]:
    """Run replicas, and yield what was measured."""
    binaries = postgres_binaries()
    if binaries is None:
        raise SystemExit("PostgreSQL is not installed")
    with (
        tempfile.TemporaryDirectory(prefix="sealwright-bench-") as folder,
        postgres(binaries, "log_line_prefix=") as server,
        process(Path(folder), "sealwright-emulator", "aws", "--port", "0") as kms,
        contextlib.ExitStack() as stack,
    ):
        directory, url = Path(folder), server.url("postgres")
        upgraded(url)
        began = time.monotonic()
        running = [stack.enter_context(_replica(directory, url, kms, size, 0))]
        _until(lambda: int(server.execute("SELECT count(*) FROM keys WHERE ready_time IS NOT NULL")) == size.keys)
        what = f"{size.issuers} x {size.series}"
        yield (
            "replicas_first_start",
            f"{what}: first start until {size.keys} keys are ready",
            "",
            time.monotonic() - began,
            "s",
        )
        began = time.monotonic()
        running += [stack.enter_context(_replica(directory, url, kms, size, n)) for n in range(1, size.replicas)]
        each = (time.monotonic() - began) / max(1, size.replicas - 1)
        yield "replicas_next_start", f"{what}: start of a further replica until it is ready", "", each, "s"
        time.sleep(min(10, size.seconds))  # caches fill, and the pages of the new keys are made
        yield from _idle(size, what, server, running)
        times = sorted(asyncio.run(_changes(url, running, size.changes)))
        text = f"{what}: from a commit to the last of {size.replicas} replicas' sets"
        yield "replicas_change_p50_ms", f"{text}, p50", "", statistics.median(times) * 1000, "ms"
        yield "replicas_change_max_ms", f"{text}, longest of {len(times)}", "1000 ms", times[-1] * 1000, "ms"


@contextlib.contextmanager
def _replica(directory: Path, url: str, kms: Process, size: Size, number: int) -> Iterator[Process]:
    tables = [issuer(f"issuer-{n}", *ALGORITHMS[: size.series]) for n in range(size.issuers)]
    here = directory / f"host-{number}"
    here.mkdir()
    config = document(here, kms.ready["endpoint"], *tables, store={"url": url}, timing={})
    config["providers"]["aws"]["max_creations_per_minute"] = 100_000
    path = write_config(here, config)
    command = ("sealwright", "serve", "--log-level", "warning", "--config", path)
    with process(here, *command) as running:
        yield running


def _idle(size: Size, what: str, server: PostgresServer, running: list[Process]) -> Iterator[Figure]:
    """Watch replicas that nobody calls: their CPU and the database's, and then the queries, which the database logs."""
    pids = [pid for one in running for pid in _family(one.popen.pid)]
    before, database = sum(map(cpu_seconds, pids)), _database_cpu(server)
    time.sleep(size.seconds)
    share = 100 / size.seconds
    used = (sum(map(cpu_seconds, pids)) - before) * share / len(running)
    yield "replicas_idle_cpu_percent", f"{what}: CPU of an idle replica", "", used, "% of a core"
    used = (_database_cpu(server) - database) * share
    yield (
        "replicas_database_cpu_percent",
        f"{what}: CPU of the database, {len(running)} replicas",
        "",
        used,
        "% of a core",
    )
    memory = max(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * 4096 / 1e6
    yield "replicas_memory_mb", f"{what}: resident memory of a replica", "", memory, "MB"
    server.execute("ALTER SYSTEM SET log_statement = 'all'")
    server.execute("SELECT pg_reload_conf(), pg_sleep(1)")
    start, count = time.monotonic(), _logged(server)
    time.sleep(size.seconds)
    queries = (_logged(server) - count) / (time.monotonic() - start) / len(running)
    server.execute("ALTER SYSTEM RESET log_statement")
    server.execute("SELECT pg_reload_conf()")
    yield "replicas_queries", f"{what}: statements a second and idle replica, heartbeats included", "", queries, "/s"


def _logged(server: PostgresServer) -> int:
    return len(LOGGED.findall(server.log.read_text(encoding="utf-8")))


def _family(pid: int) -> list[int]:
    """Return a process and its children."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            found += _family(int(child))
    return found


def _database_cpu(server: PostgresServer) -> float:
    """Return the CPU of all processes of the database. It starts none for a replica that stays connected."""
    return sum(map(cpu_seconds, _family(server.pid)))


async def _changes(url: str, running: list[Process], changes: int) -> list[float]:
    """Revoke a standby of one issuer after another, as a further replica, and return how long the sets of all kept it."""
    store = await SqlStore.open(StoreSettings(url=url))
    times = []
    async with contextlib.aclosing(store):
        state = await store.read()
        for n in range(changes):
            row = state.issuers[f"issuer-{n % len(state.issuers)}"]
            times.append(await _change(store, row, running))
            await asyncio.sleep(1)
            state = await store.read(state)
    return times


async def _change(store: SqlStore, row: IssuerState, running: list[Process]) -> float:
    standby = max((k for k in row.keys if not k.revoke_time), key=lambda k: k.ordinal)
    _, now = await store.probe()
    if not await store.change_keys(row, [replace(standby, revoke_time=now)]):
        raise RuntimeError("another replica was quicker")
    committed = time.monotonic()
    await asyncio.gather(*(asyncio.to_thread(_gone, one, row.name, standby.kid) for one in running))
    return time.monotonic() - committed


def _gone(one: Process, name: str, kid: str) -> None:
    url = f"http://{one.ready['http']}/{name}/.well-known/jwks.json"

    def gone() -> bool:
        with urllib.request.urlopen(url) as answer:
            return kid.encode() not in answer.read()

    _until(gone, 0.002)


def _until(condition: Callable[[], bool], pause: float = 0.5) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError("it did not come to be in time")
        time.sleep(pause)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("issuers", "series", "replicas", "seconds", "changes"):
        parser.add_argument(f"--{name}", type=float if name == "seconds" else int, default=getattr(Size, name))
    for _name, text, target, value, unit in measure(Size(**vars(parser.parse_args()))):
        print(f"{text:90} {value:9.4g} {unit}{f' (target {target})' if target else ''}", flush=True)


if __name__ == "__main__":
    main()
