from __future__ import annotations

import asyncio
import time

import pytest

from sealwright.errors import OverloadedError, ProviderTimeoutError
from sealwright.kms.guard import GuardedProvider
from unit.kms.guard_support import SIGNATURE, FakeProvider, Gate, guard, hang, milliseconds, settle, sign


async def test_no_more_calls_are_under_way_than_there_are_places() -> None:
    gate = Gate()
    inner = FakeProvider(forever=gate)
    guarded = guard(inner, max_in_flight=3, max_queue=20)
    calls = [asyncio.create_task(sign(guarded)) for _ in range(20)]
    await settle()
    assert inner.under_way == 3
    gate.open.set()
    assert await asyncio.gather(*calls) == [SIGNATURE] * 20
    assert inner.most == 3
    assert inner.calls["sign"] == 20


async def test_a_full_queue_refuses_at_once_and_begins_nothing() -> None:
    gate = Gate()
    inner = FakeProvider(forever=gate)
    guarded = guard(inner, max_in_flight=2, max_queue=3)
    calls = [asyncio.create_task(sign(guarded)) for _ in range(5)]
    await settle()
    start = time.monotonic()
    with pytest.raises(OverloadedError) as refused:
        await sign(guarded)
    assert time.monotonic() - start < 1
    assert refused.value.metadata == {"provider": "hsm-1"}
    assert refused.value.retry_after == 1.0
    assert inner.calls["sign"] == 2
    gate.open.set()
    assert await asyncio.gather(*calls) == [SIGNATURE] * 5


async def test_without_a_queue_the_places_are_all_there_is() -> None:
    gate = Gate()
    guarded = guard(FakeProvider(forever=gate), max_in_flight=1, max_queue=0)
    call = asyncio.create_task(sign(guarded))
    await settle()
    with pytest.raises(OverloadedError):
        await sign(guarded)
    gate.open.set()
    await call
    assert await sign(guarded) == SIGNATURE


async def test_who_waits_in_vain_is_refused_at_the_deadline() -> None:
    gate = Gate()
    inner = FakeProvider(forever=gate)
    guarded = guard(inner, max_in_flight=1, max_queue=5)
    call = asyncio.create_task(sign(guarded))
    await settle()
    start = time.monotonic()
    with pytest.raises(OverloadedError) as refused:
        await sign(guarded, 0.1)
    assert 0.1 <= time.monotonic() - start < 3
    assert refused.value.metadata == {"provider": "hsm-1"}
    gate.open.set()
    await call
    assert inner.calls["sign"] == 1


@pytest.mark.parametrize("victim", [0, 1, 2, 3, 4, 5])
async def test_a_place_is_given_back_whoever_leaves(victim: int) -> None:
    """0 and 1 are in flight, 2 and 3 wait, 4 and 5 get a place in the moment in which they are cancelled."""
    gate = Gate()
    inner = FakeProvider(forever=gate)
    guarded = guard(inner, max_in_flight=2, max_queue=10)
    calls = [asyncio.create_task(sign(guarded)) for _ in range(6)]
    await settle()
    if victim >= 4:
        for early in calls[: victim - 1]:
            early.cancel()
        await asyncio.sleep(0)
    calls[victim].cancel()
    gate.open.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(results[victim], asyncio.CancelledError)
    await places_are_whole(guarded, inner, gate)


async def test_places_are_given_back_by_calls_that_time_out_and_by_those_that_leave_a_retry() -> None:
    inner = FakeProvider(forever=hang)
    guarded = guard(inner, max_in_flight=2, max_queue=2, timeout=milliseconds(20))
    for _ in range(4):
        with pytest.raises(ProviderTimeoutError):
            await sign(guarded)
    gate = Gate()
    inner.forever = gate
    gate.open.set()
    for _ in range(3):  # A KMS that did not answer in time gets fewer calls at once, until it answers again.
        await sign(guarded)
    await places_are_whole(guarded, inner, gate)


async def places_are_whole(guarded: GuardedProvider, inner: FakeProvider, gate: Gate) -> None:
    """Check that as many calls as before can be in flight, and wait."""
    gate.open.clear()
    before = inner.calls["sign"]
    calls = [asyncio.create_task(sign(guarded)) for _ in range(3)]
    await settle()
    assert inner.under_way == 2
    assert guarded.places.waiting == 1
    gate.open.set()
    assert await asyncio.gather(*calls) == [SIGNATURE] * 3
    assert inner.calls["sign"] == before + 3
    assert guarded.places.waiting == 0
    assert inner.under_way == 0


async def test_a_storm_of_callers_who_leave_costs_no_place() -> None:
    gate = Gate()
    inner = FakeProvider(forever=gate)
    guarded = guard(inner, max_in_flight=2, max_queue=50)
    for round_ in range(30):
        calls = [asyncio.create_task(sign(guarded)) for _ in range(12)]
        for _ in range(round_ % 4):
            await asyncio.sleep(0)
        gate.open.set()
        for call in calls[round_ % 3 :: 3]:
            call.cancel()
        for _ in range(round_ % 5):
            await asyncio.sleep(0)
        for call in calls[::4]:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        gate.open.clear()
    await places_are_whole(guarded, inner, gate)
