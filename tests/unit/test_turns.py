"""Parts of signatures in the turns of the event loop: few in each, in order, and all of them in the end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

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
        await self.turns.take("")
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


async def test_the_batches_of_one_caller_delay_those_of_another_by_one_part_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = Batches(monkeypatch)
    floods = [kept.work(iter([1]), SLICE_SECONDS, f"caller {n % 3}") for n in range(300)]
    await asyncio.gather(*floods, kept.work(iter([2]), SLICE_SECONDS, "another"))
    assert [name for _, name in kept.watched.ran].index(2) <= 5


@pytest.mark.parametrize("cancelled", [0, 1, 100])
async def test_cancelled_parts_do_not_send_their_caller_to_the_end(cancelled: int) -> None:
    turns = Turns()
    done: list[str] = []

    async def part(caller: str) -> None:
        await turns.take(caller)
        done.append(caller)

    await turns.take("")
    gone = [asyncio.create_task(part("a")) for _ in range(cancelled)]
    rest = [asyncio.create_task(part(c)) for c in ("a", *(f"{n}" for _ in range(9) for n in range(20)))]
    await asyncio.sleep(0)
    for one in gone:
        one.cancel()
    await asyncio.gather(*rest)
    assert done.index("a") <= 21


@pytest.mark.parametrize("flood", [1, 10, 500])
async def test_the_parts_of_one_caller_delay_those_of_another_by_one_each(flood: int) -> None:
    turns = Turns()
    done: list[str] = []

    async def part(caller: str) -> None:
        await turns.take(caller)
        done.append(caller)

    await asyncio.gather(*(part(caller) for caller in ("a",) * flood + ("b", "c", "b")))
    assert done.index("b") <= 3
    assert done.index("c") <= 4
    assert [i for i, name in enumerate(done) if name == "b"][1] <= 6
    assert done.count("a") == flood


class Batches:
    """Batches whose requests take as long as a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        self.watched, self.slices = Watched(), Slices()

    async def work(self, names: Iterator[int], seconds: float, caller: str = "") -> None:
        """Run requests of a batch, one after the other."""
        for name in names:
            await self.slices.take(caller)
            self.watched.ran.append((self.watched.number, name))
            self.now += seconds

    async def run(self, seconds: float, count: int = 60, width: int = 8) -> None:
        """Run a batch."""
        names = iter(range(count))
        await asyncio.gather(*(self.work(names, seconds) for _ in range(width)))


@pytest.mark.parametrize(("seconds", "most"), [(SLICE_SECONDS / 4, 5), (SLICE_SECONDS * 2, 1), (0.0, 60)])
@pytest.mark.parametrize("batches", [1, 2, 20])
async def test_all_batches_share_the_slice_of_a_turn(
    monkeypatch: pytest.MonkeyPatch, seconds: float, most: int, batches: int
) -> None:
    kept = Batches(monkeypatch)
    kept.watched.count()
    await asyncio.gather(*(kept.run(seconds) for _ in range(batches)))
    assert sorted(name for _, name in kept.watched.ran) == sorted([*range(60)] * batches)
    assert most_in_a_turn(kept.watched) <= most * (batches if not seconds else 1)


async def test_parts_that_take_longer_than_those_before_them_do_not_run_in_one_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept = Batches(monkeypatch)
    kept.watched.count()
    await asyncio.gather(*(kept.run(SLICE_SECONDS / 50, 400, 100), kept.run(SLICE_SECONDS * 2)))
    long = Counter(turn for turn, _ in kept.watched.ran)
    assert len(kept.watched.ran) == 460
    assert kept.watched.ran[-1][0] >= 60, "each long part has a turn of its own"
    assert max(long.values()) <= 52


async def test_parts_run_in_the_order_in_which_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Batches(monkeypatch)
    await asyncio.gather(*(kept.work(iter([name]), SLICE_SECONDS / (1 + name % 7)) for name in range(50)))
    assert [name for _, name in kept.watched.ran] == list(range(50))


@given(st.sets(st.integers(1, 9)))
def test_a_part_that_is_cancelled_holds_up_no_other(cancelled: set[int]) -> None:
    async def run() -> list[object]:
        with pytest.MonkeyPatch.context() as monkeypatch:
            kept = Batches(monkeypatch)
            tasks = [asyncio.create_task(kept.work(iter([name]), SLICE_SECONDS)) for name in range(10)]
            await asyncio.sleep(0)
            for name in cancelled:
                tasks[name].cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for _ in range(3):
                await asyncio.sleep(0)
            assert not asyncio.get_running_loop()._ready  # type: ignore[attr-defined]
            return [name for _, name in kept.watched.ran]

    assert asyncio.run(run()) == [name for name in range(10) if name not in cancelled]
