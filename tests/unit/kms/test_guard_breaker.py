from __future__ import annotations

import asyncio
import logging

import pytest

from sealwright.errors import (
    MessageTooLargeError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright.kms.guard import FAILURES_TO_OPEN, Breaker, GuardedProvider
from unit.kms.guard_support import SIGNATURE, FakeClock, FakeProvider, guard, hang, milliseconds, sign

DOWN = ProviderUnavailableError("m")


async def fail(guarded: GuardedProvider, times: int = 1) -> ProviderError:
    """Make a request fail so many times, and return the last error."""
    for _ in range(times - 1):
        with pytest.raises(ProviderError):
            await sign(guarded)
    with pytest.raises(ProviderError) as raised:
        await sign(guarded)
    return raised.value


async def opened(inner: FakeProvider, clock: FakeClock) -> GuardedProvider:
    """Return a guard whose breaker is open."""
    guarded = guard(inner, clock)
    while not guarded.breaker.open:
        await fail(guarded)
    return guarded


async def test_c127_five_failures_in_a_row_open_it() -> None:
    inner = FakeProvider(forever=DOWN)
    guarded = await opened(inner, FakeClock())
    assert inner.calls["sign"] == FAILURES_TO_OPEN == 5
    error = await fail(guarded)
    assert inner.calls["sign"] == 5
    assert isinstance(error, ProviderUnavailableError)
    assert error.metadata == {"provider": "hsm-1"}
    assert error.retry_after == pytest.approx(1.0)


async def test_c127_while_open_there_is_one_call_a_second_whoever_asks() -> None:
    clock = FakeClock()
    inner = FakeProvider(forever=DOWN)
    guarded = await opened(inner, clock)
    before = inner.calls["sign"]
    for _ in range(30 * 100):  # 30 s at 100 requests a second
        clock.seconds += 0.01
        await fail(guarded)
    assert 25 <= inner.calls["sign"] - before <= 30


async def test_c127_one_try_at_a_time_even_where_it_hangs() -> None:
    clock = FakeClock()
    inner = FakeProvider(forever=DOWN)
    guarded = await opened(inner, clock)
    inner.forever = hang
    before = inner.calls["sign"]
    clock.seconds += 1.5
    calls = [asyncio.create_task(sign(guarded)) for _ in range(20)]
    await asyncio.sleep(0.02)
    assert inner.calls["sign"] - before == 1
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)


async def test_c127_one_answer_closes_it_without_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "sealwright.kms.guard")
    clock = FakeClock()
    inner = FakeProvider(forever=DOWN)
    guarded = await opened(inner, clock)
    inner.forever = None
    clock.seconds += 1.01
    assert [await sign(guarded) for _ in range(10)] == [SIGNATURE] * 10
    said = [r.getMessage() for r in caplog.records]
    assert len(said) == 2
    assert "hsm-1 does not answer (PROVIDER_UNAVAILABLE" in said[0]
    assert said[1] == "provider hsm-1 answers again"


async def test_an_error_of_the_key_is_an_answer_and_closes_it() -> None:
    clock = FakeClock()
    inner = FakeProvider(forever=DOWN)
    guarded = await opened(inner, clock)
    inner.forever = ProviderKeyDisabledError("m")
    clock.seconds += 1.01
    await fail(guarded)
    assert not guarded.breaker.open


@pytest.mark.parametrize("error", [ProviderThrottledError("m", retry_after=60), ProviderKeyDisabledError("m")])
async def test_errors_that_are_answers_never_open_it(error: ProviderError) -> None:
    guarded = guard(FakeProvider(forever=error))
    await fail(guarded, 20)
    assert not guarded.breaker.open


@pytest.mark.parametrize("error", [ProviderUnsupportedError("m"), MessageTooLargeError("m")])
async def test_a_refusal_before_any_call_tells_nothing_of_the_backend(error: ProviderError) -> None:
    clock = FakeClock()
    inner = FakeProvider(forever=DOWN)
    guarded = await opened(inner, clock)
    inner.forever = error
    clock.seconds += 1.01
    await fail(guarded)
    assert guarded.breaker.open


async def test_callers_in_a_hurry_do_not_open_it_for_the_others() -> None:
    async def in_a_while(_timeout: float) -> None:
        await asyncio.sleep(0.05)

    guarded = guard(FakeProvider(forever=in_a_while))
    for _ in range(10):
        with pytest.raises(ProviderTimeoutError):
            await sign(guarded, 0.01)
    assert not guarded.breaker.open
    assert await sign(guarded) == SIGNATURE


async def test_a_backend_that_uses_up_all_its_time_opens_it() -> None:
    inner = FakeProvider(forever=hang)
    guarded = guard(inner, timeout=milliseconds(20))
    await fail(guarded, 5)
    assert guarded.breaker.open


async def test_a_request_that_has_no_time_left_does_not_use_up_the_one_try() -> None:
    clock = FakeClock()
    inner = FakeProvider(forever=DOWN)
    guarded = await opened(inner, clock)
    inner.forever = None
    clock.seconds += 1.01
    with pytest.raises(ProviderTimeoutError):
        await sign(guarded, 0)
    assert await sign(guarded) == SIGNATURE


async def test_there_is_no_retry_into_a_breaker_that_has_just_opened() -> None:
    inner = FakeProvider(forever=DOWN)
    guarded = guard(inner, FakeClock())
    await fail(guarded, 2)
    assert inner.calls["sign"] == 4
    await fail(guarded)
    assert inner.calls["sign"] == 5


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker(FakeClock())
    for _ in range(10):
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.record(answered=False)
        breaker.record(answered=True)
    assert not breaker.open
    assert breaker.wait() == 0


def test_the_log_names_the_kind_of_cause_and_none_of_its_text(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        async def lost(_timeout: float) -> None:
            raise ProviderUnavailableError("m") from ConnectionResetError("arn:aws:kms:secret")

        guarded = guard(FakeProvider(forever=lost), FakeClock())
        await fail(guarded, 3)

    asyncio.run(run())
    assert "ConnectionResetError" in caplog.text
    assert "arn:" not in caplog.text
