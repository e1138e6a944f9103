"""Several writers at once: exactly one wins, and nothing is lost (C102)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from sealwright.keys.ports import ClockRecord, Replica
from sealwright.sql.settings import StoreSettings

from .rows import LIMITS, NOW, issuer_state, key, opened

THREADS, ROUNDS = 8, 50
PROCESSES, PROCESS_ROUNDS = 8, 100


def test_c102_of_eight_writers_exactly_one_wins_each_round_and_nothing_is_lost(database: StoreSettings) -> None:
    barrier = threading.Barrier(THREADS, timeout=60)

    async def write(me: int) -> list[str]:
        won = []
        async with opened(database) as store:
            for number in range(1, ROUNDS + 1):
                barrier.wait()
                state = await issuer_state(store)
                barrier.wait()
                mine = key(number, kid=f"{me}-{number}", uri=f"awskms:///{me}-{number}")
                if await store.publish(state, [mine], []):
                    won.append(mine.kid)
        return won

    async def rest() -> tuple[int, list[str], list[int]]:
        async with opened(database) as store:
            state = await issuer_state(store)
            return state.revision, [k.kid for k in state.keys], [k.ordinal for k in state.keys]

    with ThreadPoolExecutor(THREADS) as threads:
        won = list(threads.map(lambda me: asyncio.run(write(me)), range(THREADS)))
    revision, kids, ordinals = asyncio.run(rest())
    assert sorted(kids) == sorted(kid for kids_of_one in won for kid in kids_of_one)
    assert ordinals == list(range(1, ROUNDS + 1))
    assert revision == 2 + ROUNDS, "the issuer's row is the second revision of a store"


@contextlib.contextmanager
def racers(database: StoreSettings) -> Iterator[list[subprocess.Popen[str]]]:
    script = Path(__file__).parent / "racer.py"
    running = [
        subprocess.Popen(  # noqa: S603 - our own script
            [sys.executable, str(script), database.url, str(me), str(PROCESS_ROUNDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for me in range(PROCESSES)
    ]
    try:
        yield running
    finally:
        for one in running:
            one.kill()
            one.communicate()


def ask(running: list[subprocess.Popen[str]], word: str = "") -> list[str]:
    """Tell all to go on, then hear all."""
    for one in running if word else ():
        assert one.stdin is not None
        one.stdin.write(f"{word}\n")
        one.stdin.flush()
    return [one.stdout.readline().strip() if one.stdout else "" for one in running]


def test_c102_processes_upgrade_an_empty_store_together_and_rotate_once_each_round(database: StoreSettings) -> None:
    with racers(database) as running:
        assert ask(running) == ["here"] * PROCESSES
        seen = ask(running, "upgrade")
        for number in range(PROCESS_ROUNDS):
            assert seen == [str(number)] * PROCESSES, "all of them see every key that was published before"
            assert Counter(ask(running, "publish")) == {"won": 1, "lost": PROCESSES - 1}
            seen = ask(running, "read")
        assert [one.wait(10) for one in running] == [0] * PROCESSES

    async def kids() -> list[str]:
        async with opened(database) as store:
            return [k.kid for k in (await issuer_state(store)).keys]

    won = asyncio.run(kids())
    assert [int(kid.partition("-")[2]) for kid in won] == list(range(1, PROCESS_ROUNDS + 1)), "no key is lost"


def test_i12_writers_of_all_kinds_do_not_wait_for_each_other_in_a_circle(database: StoreSettings) -> None:
    """Each of them writes rows of several issuers, kids or replicas, in an order of its own."""
    barrier = threading.Barrier(THREADS, timeout=60)
    names = [f"issuer-{n}" for n in range(6)]

    async def write(me: int) -> None:
        order = random.Random(me)  # noqa: S311 - a test that can be repeated
        async with opened(database) as store:
            for name in names:
                await store.ensure_issuer(name, LIMITS)
            for number in range(15):
                barrier.wait()
                await store.add_token_counts({(f"kid-{n}", 10**8): 1 for n in order.sample(range(30), 30)})
                await store.heartbeat(Replica(replica_id=f"{me}", revision=1, start_time=NOW, seen_time=NOW), clock)
                if me % 4 == 0:
                    await store.revoke_all(f"provider-{order.randrange(3)}", lambda _: [])
                elif me % 4 == 1:
                    state = await store.read()
                    await store.settle_clock(state, timedelta(seconds=1), clock)
                elif me % 4 == 2:
                    await store.prune(replicas_seen_before=NOW, tokens_expired_before=10**8 + number % 2)
                    await store.farewell(f"{order.randrange(THREADS)}", NOW, clock)
                else:
                    state = await store.read()
                    for name in order.sample(names, 6):
                        ordinal = len(state.issuers[name].keys)
                        new = key(ordinal, name, kid=f"{me}-{name}-{number}", uri=f"awskms:///{me}-{name}-{number}")
                        await store.publish(state.issuers[name], [new], [])

    clock = ClockRecord(boot_id="boot", zero=NOW, seen_time=NOW)
    with ThreadPoolExecutor(THREADS) as threads:
        assert list(threads.map(lambda me: asyncio.run(write(me)), range(THREADS))) == [None] * THREADS
