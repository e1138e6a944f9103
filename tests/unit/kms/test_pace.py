"""How many calls a KMS gets in a second."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.clock import SystemClock
from sealwright.errors import OverloadedError
from sealwright.kms.places import Pace
from unit.kms.guard_support import SIGNATURE, FakeClock, FakeProvider, guard, sign

BURST = 0.1


@given(st.integers(1, 5000), st.integers(1, 50), st.lists(st.floats(0, 0.5), max_size=200))
def test_in_no_time_there_are_more_calls_than_the_quota_and_a_burst(
    rate: int, workers: int, pauses: list[float]
) -> None:
    clock = FakeClock()
    pace = Pace(rate, clock)
    pace.share(workers)
    times = []
    for pause in pauses:
        clock.seconds += pause
        while pace.take():
            times.append(clock.seconds)
    for first, begin in enumerate(times[:50]):
        for last in range(first, len(times)):
            most = (times[last] - begin + BURST) * rate / workers + 1
            assert last - first + 1 <= most + 1e-6


@given(st.integers(1, 5000), st.integers(1, 50))
def test_after_the_wait_that_it_names_a_call_may_be_made(rate: int, workers: int) -> None:
    clock = FakeClock()
    pace = Pace(rate, clock)
    pace.share(workers)
    for _ in range(20):
        while pace.take():
            pass
        clock.seconds += pace.wait() + 1e-6
        assert pace.take()


async def test_calls_beyond_the_quota_wait_for_their_turn() -> None:
    began: list[float] = []

    async def note(_timeout: float) -> None:
        began.append(time.monotonic())

    guarded = guard(FakeProvider(forever=note), clock=SystemClock(), max_calls_per_second=100)
    assert guarded.pace is not None
    guarded.pace.share(2)
    answers = await asyncio.gather(*(sign(guarded, seconds=30) for _ in range(20)))
    assert answers == [SIGNATURE] * 20
    assert (guarded.places.taken, guarded.places.waiting) == (0, 0)
    assert began[-1] - began[0] >= (20 - 1) / 50 - BURST


async def test_a_call_that_cannot_have_its_turn_in_time_is_refused_and_the_others_go_on() -> None:
    guarded = guard(FakeProvider(), clock=SystemClock(), max_calls_per_second=1)
    assert await sign(guarded) == SIGNATURE
    with pytest.raises(OverloadedError) as raised:
        await sign(guarded, seconds=0.05)
    assert raised.value.retry_after
    assert await sign(guarded, seconds=30) == SIGNATURE
