"""Parts of signatures in the turns of the event loop: few in each, in order, and all of them in the end."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.turns import PASSES, SLICE_SECONDS, Slices, Turns


class Watched:
    """Counts the turns of the event loop, and notes in which of them parts run."""

    def __init__(self) -> None:
        self.turns = Turns()
        self.number = 0
        self.ran: list[tuple[int, int]] = []

    def count(self) -> None:
        """Count this turn, and the next."""
        self.number += 1
        asyncio.get_running_loop().call_soon(self.count)

    async def part(self, name: int) -> None:
        """Run one part."""
        await self.turns.take()
        self.ran.append((self.number, name))


def most_in_a_turn(watched: Watched) -> int:
    turns = [turn for turn, _ in watched.ran]
    return max(map(turns.count, turns))


@given(st.integers(1, 40))
def test_a_turn_has_few_parts_and_all_run_in_the_order_in_which_they_came(count: int) -> None:
    async def run() -> Watched:
        watched = Watched()
        watched.count()
        await asyncio.gather(*map(watched.part, range(count)))
        return watched

    watched = asyncio.run(run())
    assert [name for _, name in watched.ran] == list(range(count))
    assert most_in_a_turn(watched) <= PASSES
    assert watched.ran[-1][0] - watched.ran[0][0] <= count // PASSES + 1


@given(st.lists(st.integers(0, 12), max_size=12))
def test_no_part_overtakes_one_that_came_earlier(groups: list[int]) -> None:
    async def run() -> list[int]:
        watched = Watched()
        tasks, name = [], 0
        for group in groups:
            for _ in range(group):
                tasks.append(asyncio.create_task(watched.part(name)))
                name += 1
            await asyncio.sleep(0)
        await asyncio.gather(*tasks)
        return [name for _, name in watched.ran]

    assert asyncio.run(run()) == list(range(sum(groups)))


@given(st.sets(st.integers(0, 19)))
def test_a_part_whose_call_is_cancelled_takes_nobodys_turn(cancelled: set[int]) -> None:
    async def run() -> tuple[Watched, int]:
        watched = Watched()
        watched.count()
        tasks = [asyncio.create_task(watched.part(name)) for name in range(20)]
        await asyncio.sleep(0)
        for name in cancelled:
            tasks[name].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return watched, watched.number

    watched, number = asyncio.run(run())
    assert {name for _, name in watched.ran} >= set(range(20)) - cancelled
    assert most_in_a_turn(watched) <= PASSES
    assert number <= 20 / PASSES + 5


async def test_nothing_is_scheduled_when_nobody_waits_any_longer() -> None:
    watched = Watched()
    await asyncio.gather(*map(watched.part, range(5)))
    for _ in range(3):
        await asyncio.sleep(0)
    scheduled = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
    assert not scheduled


@pytest.mark.parametrize(("seconds", "most"), [(SLICE_SECONDS / 4, 5), (SLICE_SECONDS * 2, 1), (0.0, 60)])
async def test_a_slice_ends_with_the_part_in_which_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch, seconds: float, most: int
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    watched, slices, left = Watched(), Slices(), iter(range(60))

    async def work() -> None:
        nonlocal now
        for name in left:
            await slices.take()
            watched.ran.append((watched.number, name))
            now += seconds

    watched.count()
    await asyncio.gather(*(work() for _ in range(8)))
    assert sorted(name for _, name in watched.ran) == list(range(60))
    assert most_in_a_turn(watched) == most


async def test_a_part_that_is_cancelled_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    slices = Slices()
    await slices.take()
    waiting = [asyncio.create_task(slices.take()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[1].cancel()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(d) for d in done] == [type(None), asyncio.CancelledError, type(None)]
