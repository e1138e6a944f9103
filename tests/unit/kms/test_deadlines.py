"""Calls that do not end by themselves are ended, and nobody else's cancellation is taken for it."""

from __future__ import annotations

import asyncio

import pytest

from sealwright.kms.deadlines import Deadlines


async def forever(**_timeout: float) -> None:
    await asyncio.Event().wait()


async def test_calls_end_in_the_order_of_their_deadlines_however_they_began() -> None:
    deadlines, ended = Deadlines(), []

    async def one(seconds: float) -> None:
        with pytest.raises(TimeoutError):
            await deadlines.call(forever, (), seconds)
        ended.append(seconds)

    await asyncio.gather(*map(one, (0.3, 0.1, 0.2)))
    assert ended == [0.1, 0.2, 0.3]


async def test_a_call_that_ends_by_itself_is_not_ended() -> None:
    deadlines = Deadlines()

    async def answer(value: str, *, timeout: float) -> tuple[str, float]:
        return value, timeout

    async def fail(**_timeout: float) -> None:
        raise TimeoutError("its own")

    for _ in range(3):
        assert await deadlines.call(answer, ("x",), 0.05) == ("x", 0.05)
        with pytest.raises(TimeoutError, match="its own"):
            await deadlines.call(fail, (), 0.05)
    await asyncio.sleep(0.2)
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_a_caller_who_cancels_is_not_told_of_a_timeout() -> None:
    task = asyncio.ensure_future(Deadlines().call(forever, (), 5.0))
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_caller_who_cancels_at_the_deadline_is_heard() -> None:
    """Both cancel the same task. It ends as cancelled, as with `asyncio.timeout`."""

    async def slow(**_timeout: float) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            task.cancel()
            raise

    task = asyncio.ensure_future(Deadlines().call(slow, (), 0.05))
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_that_ignores_its_end_goes_on_and_its_task_is_not_cancelled() -> None:
    async def stubborn(**_timeout: float) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0.05)
        return "after all"

    assert await Deadlines().call(stubborn, (), 0.05) == "after all"
    assert asyncio.current_task().cancelling() == 0  # type: ignore[union-attr]


async def test_no_timer_is_left_when_nothing_is_under_way() -> None:
    deadlines = Deadlines()
    with pytest.raises(TimeoutError):
        await deadlines.call(forever, (), 0.01)
    await asyncio.sleep(0.1)
    assert deadlines._timer is None
