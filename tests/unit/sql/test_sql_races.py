"""Several writers at once: exactly one wins, and nothing is lost (C102)."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sealwright.sql.settings import StoreSettings

from .rows import issuer_state, key, opened

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
    assert revision == 1 + ROUNDS


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
