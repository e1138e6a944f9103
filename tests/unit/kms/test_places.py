"""How many calls a KMS gets at once, who waits, and how often calls are repeated."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.errors import OverloadedError, ProviderThrottledError, ProviderUnavailableError
from sealwright.kms.guard import GuardedProvider
from sealwright.kms.places import Places, QueueFullError
from unit.kms.guard_support import ES256, SIGNATURE, URI, FakeClock, FakeProvider, Gate, guard, settle, sign


async def waiting(places: Places, caller: str) -> asyncio.Task[None]:
    task = asyncio.create_task(places.wait(caller, 60))
    await settle()
    return task


def by(guarded: GuardedProvider, caller: str) -> asyncio.Task[object]:
    return asyncio.create_task(guarded.sign(URI, ES256, b"m", timeout=30, caller=caller))


async def test_the_flood_of_one_caller_does_not_push_out_the_call_of_another() -> None:
    gate = Gate()
    guarded = guard(FakeProvider(forever=gate), max_in_flight=2, max_queue=10)
    flood = [by(guarded, "loud") for _ in range(12)]
    await settle()
    quiet = by(guarded, "quiet")
    await settle()
    assert not quiet.done()
    refused = [call for call in flood if call.done()]
    assert len(refused) == 1
    assert isinstance(refused[0].exception(), OverloadedError)
    gate.open.set()
    assert await quiet == SIGNATURE
    assert all(await asyncio.gather(*(call for call in flood if call is not refused[0])))


async def test_callers_take_turns() -> None:
    places = Places(1, 100, FakeClock())
    assert places.take()
    loud = [await waiting(places, "loud") for _ in range(5)]
    quiet = await waiting(places, "quiet")
    places.release()
    await settle()
    assert [task.done() for task in loud] == [True, False, False, False, False]
    places.release()
    await settle()
    assert quiet.done()
    for _ in range(5):
        places.release()
        await settle()
    await asyncio.gather(*loud)
    assert (places.taken, places.waiting) == (0, 0)


async def test_a_caller_with_as_much_of_the_queue_as_anybody_is_refused() -> None:
    places = Places(1, 4, FakeClock())
    assert places.take()
    tasks = [await waiting(places, caller) for caller in ("a", "b", "a", "b")]
    with pytest.raises(QueueFullError):
        await places.wait("a", 60)
    with pytest.raises(QueueFullError):
        await places.wait("b", 60)
    third = await waiting(places, "c")
    assert sum(task.done() for task in tasks) == 1
    for task in (*tasks, third):
        task.cancel()
    await asyncio.gather(*tasks, third, return_exceptions=True)
    assert places.waiting == 0


async def test_a_kms_that_throttles_gets_fewer_calls_at_once_and_then_more_again() -> None:
    clock = FakeClock()
    places = Places(64, 10, clock)
    for _ in range(50):
        places.crowded()  # the answers to one burst
    assert places.limit == 44
    for _ in range(20):
        clock.seconds += 1
        places.crowded()
    assert places.limit == 1
    for _ in range(64 * 64):
        places.answered()
    assert places.limit == 64


async def test_throttling_reduces_the_calls_in_flight() -> None:
    guarded = guard(FakeProvider(forever=ProviderThrottledError("slow down", retry_after=0)), max_in_flight=10)
    with pytest.raises(ProviderThrottledError):
        await sign(guarded)
    assert guarded.places.limit == 7


async def test_repeated_calls_stay_within_a_tenth_of_all_calls() -> None:
    inner = FakeProvider(forever=ProviderThrottledError("slow down", retry_after=0))
    guarded = guard(inner)
    for _ in range(500):
        with pytest.raises(ProviderThrottledError):
            await sign(guarded)
    assert 500 < inner.calls["sign"] <= 500 + 50 + 10


async def test_a_single_failure_is_still_repeated_after_many_calls_without_one() -> None:
    inner = FakeProvider(*[None] * 100, ProviderUnavailableError("reset"))
    guarded = guard(inner)
    for _ in range(101):
        assert await sign(guarded) == SIGNATURE
    assert inner.calls["sign"] == 102


@given(
    st.integers(1, 4),
    st.integers(0, 6),
    st.lists(st.tuples(st.sampled_from(["call", "end", "leave", "slow"]), st.integers(0, 2)), max_size=60),
)
def test_no_place_is_lost_and_none_is_given_twice(most: int, queue: int, steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        clock = FakeClock()
        places = Places(most, queue, clock)
        waiters: list[asyncio.Task[None]] = []
        held = 0
        for step, who in steps:
            if step == "call":
                if places.take():
                    held += 1
                else:
                    waiters.append(asyncio.create_task(places.wait(f"caller-{who}", 60)))
            elif step == "end" and held:
                held -= 1
                places.release()
            elif step == "leave" and waiters:
                waiters.pop(who % len(waiters)).cancel()
            elif step == "slow":
                clock.seconds += 1
                places.crowded()
            await settle()
            held += sum(task.done() and task.exception() is None for task in waiters)
            waiters = [task for task in waiters if not task.done()]
            assert places.taken == held <= most
            assert places.waiting == len(waiters) <= queue
        for _ in range(held):
            places.release()
            await settle()
        while places.waiting:
            places.release() if places.taken else places.answered()
            await settle()

    asyncio.run(run())
