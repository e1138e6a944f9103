from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import pytest

from sealwright.errors import (
    Code,
    MessageTooLargeError,
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    SignatureRejectedError,
)
from sealwright.kms.guard import GuardedProvider
from sealwright.provider import KeySpec
from unit.kms.guard_support import (
    ES256,
    KEY,
    SIGNATURE,
    URI,
    FakeClock,
    FakeProvider,
    FullProvider,
    guard,
    hang,
    milliseconds,
    sign,
)

SPEC = KeySpec(algorithm=ES256)
SECRET = "arn:aws:kms:eu-west-1:111122223333:key/secret"

FINAL: list[ProviderError] = [
    ProviderAccessDeniedError("m"),
    ProviderKeyMissingError("m"),
    ProviderKeyDisabledError("m"),
    ProviderUnsupportedError("m"),
    MessageTooLargeError("m", metadata={"limit": "4096"}),
    SignatureRejectedError("m"),
    ProviderTimeoutError("m"),
]


@pytest.mark.parametrize("error", FINAL, ids=lambda e: type(e).__name__)
async def test_c49_what_a_retry_cannot_mend_is_one_call_and_carries_the_providers_name(error: ProviderError) -> None:
    expected = {**error.metadata, "provider": "hsm-1"}
    inner = FakeProvider(error)
    with pytest.raises(type(error)) as raised:
        await sign(guard(inner))
    assert raised.value.metadata == expected
    assert inner.calls == {"sign": 1}


@pytest.mark.parametrize("kind", [ProviderThrottledError, ProviderUnavailableError])
async def test_what_a_retry_may_mend_is_tried_once_more(kind: type[ProviderError]) -> None:
    inner = FakeProvider(kind("m"))
    assert await sign(guard(inner)) == SIGNATURE
    assert inner.calls == {"sign": 2}


@pytest.mark.parametrize("kind", [ProviderThrottledError, ProviderUnavailableError])
async def test_a_second_failure_is_the_answer_and_says_when_to_come_again(kind: type[ProviderError]) -> None:
    inner = FakeProvider(forever=kind("m"))
    with pytest.raises(kind) as raised:
        await sign(guard(inner))
    assert inner.calls == {"sign": 2}
    assert raised.value.retry_after == 1.0
    assert raised.value.metadata == {"provider": "hsm-1"}


async def test_c109_a_hundred_throttled_requests_are_two_hundred_calls_at_the_most() -> None:
    inner = FakeProvider(forever=ProviderThrottledError("m"))
    guarded = guard(inner)
    results = await asyncio.gather(*(sign(guarded) for _ in range(100)), return_exceptions=True)
    assert {type(r) for r in results} == {ProviderThrottledError}
    assert inner.calls["sign"] <= 200
    assert not guarded.breaker.open


async def test_c109_the_seconds_that_the_kms_asks_for_are_waited() -> None:
    inner = FakeProvider(ProviderThrottledError("m", retry_after=0.3))
    start = time.monotonic()
    assert await sign(guard(inner)) == SIGNATURE
    assert time.monotonic() - start >= 0.3


async def test_c109_where_the_kms_asks_for_more_than_there_is_the_caller_is_told_at_once() -> None:
    inner = FakeProvider(ProviderThrottledError("m", retry_after=60))
    start = time.monotonic()
    with pytest.raises(ProviderThrottledError) as raised:
        await sign(guard(inner), 2)
    assert time.monotonic() - start < 1.5
    assert raised.value.retry_after == 60
    assert inner.calls == {"sign": 1}


async def test_a_key_is_never_created_twice() -> None:
    for error in (ProviderThrottledError("m"), ProviderUnavailableError("m"), ProviderTimeoutError("m")):
        inner = FullProvider(error)
        with pytest.raises(type(error)):
            await guard(inner).create(SPEC, timeout=30)
        assert inner.calls == {"create": 1}


async def test_what_can_be_repeated_is_tried_once_more() -> None:
    calls: list[Callable[[GuardedProvider], Awaitable[object]]] = [
        lambda g: g.describe(URI, timeout=5),
        lambda g: g.find({}, timeout=5),
        lambda g: g.disable(URI, timeout=5),
        lambda g: g.schedule_deletion(URI, timeout=5),
    ]
    for call in calls:
        inner = FullProvider(ProviderUnavailableError("m"))
        await call(guard(inner))
        assert list(inner.calls.values()) == [2]


async def test_a_call_that_hangs_ends_with_the_callers_deadline_or_the_providers_timeout() -> None:
    for timeout, deadline in ((milliseconds(5000), 0.15), (milliseconds(150), 5.0)):
        start = time.monotonic()
        with pytest.raises(ProviderTimeoutError) as raised:
            await sign(guard(FakeProvider(forever=hang), timeout=timeout), deadline)
        assert 0.15 <= time.monotonic() - start < 3
        assert raised.value.metadata == {"provider": "hsm-1"}


async def test_the_provider_is_told_how_long_it_has() -> None:
    clock = FakeClock()
    inner = FullProvider()
    guarded = guard(inner, clock, timeout=milliseconds(2000))
    await sign(guarded, 1)
    await sign(guarded, 60)
    # Creating and finding are slow, and may take all the time of their caller.
    await guarded.create(SPEC, timeout=60)
    await guarded.find({}, timeout=60)
    assert inner.timeouts == [1, 2, 60, 60]


async def test_c128_nothing_is_begun_once_the_deadline_has_passed() -> None:
    inner = FullProvider()
    guarded = guard(inner)
    for timeout in (0.0, -1.0):
        with pytest.raises(ProviderTimeoutError) as raised:
            await sign(guarded, timeout)
        assert raised.value.metadata == {"provider": "hsm-1"}
        with pytest.raises(ProviderTimeoutError):
            await guarded.create(SPEC, timeout=timeout)
    assert not inner.calls


async def test_c128_who_waited_in_the_queue_beyond_the_deadline_makes_no_call() -> None:
    inner = FakeProvider(forever=hang)
    guarded = guard(inner, max_in_flight=2, max_queue=10, timeout=milliseconds(2000))
    calls = (sign(guarded, seconds) for seconds in (1.0, 1.0, *[0.1] * 6))
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(e, Exception) for e in errors)
    assert inner.calls["sign"] == 2


async def test_a_caller_who_leaves_cancels_the_call() -> None:
    inner = FakeProvider(forever=hang)
    guarded = guard(inner)
    call = asyncio.create_task(sign(guarded))
    await asyncio.sleep(0.01)
    assert inner.under_way == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert inner.under_way == 0
    assert not guarded.breaker.open


def connection_lost() -> Exception:
    error = RuntimeError(f"{SECRET}: pin 1234")
    error.__cause__ = OSError(SECRET)
    return error


@pytest.mark.parametrize("fault", [connection_lost(), KeyError(SECRET), ExceptionGroup(SECRET, [ValueError(SECRET)])])
async def test_c131_what_a_faulty_provider_raises_goes_no_further_than_its_name(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    inner = FakeProvider(forever=fault)
    with pytest.raises(ProviderError) as raised:
        await sign(guard(inner))
    error = raised.value
    assert (error.reason, error.code, error.metadata) == ("INTERNAL_ERROR", Code.INTERNAL, {"provider": "hsm-1"})
    assert error.__cause__ is None
    assert error.__suppress_context__
    for text in (str(error), repr(error), caplog.text):
        assert not any(secret in text for secret in ("arn:", "111122223333", "1234", "secret"))
    # Enough to find the bug: the type of the exception, and where it was raised.
    (record,) = [r for r in caplog.records if r.name == "sealwright.kms.guard"]
    assert type(fault).__name__ in record.getMessage()
    assert "guard_support.py" in record.getMessage()
    assert record.exc_info is None
    assert inner.calls == {"sign": 1}


async def test_a_provider_that_cancels_itself_does_not_look_like_a_caller_who_left() -> None:
    async def cancelled(_timeout: float) -> None:
        raise asyncio.CancelledError

    with pytest.raises(ProviderError) as raised:
        await sign(guard(FakeProvider(forever=cancelled)))
    assert raised.value.reason == "INTERNAL_ERROR"


async def test_a_missing_capability_is_refused_without_a_call() -> None:
    inner = FakeProvider()
    guarded = guard(inner)
    for call in (
        guarded.create(SPEC, timeout=5),
        guarded.find({}, timeout=5),
        guarded.disable(URI, timeout=5),
        guarded.schedule_deletion(URI, timeout=5),
    ):
        with pytest.raises(ProviderUnsupportedError) as raised:
            await call
        assert raised.value.metadata == {"provider": "hsm-1"}
    assert not inner.calls


async def test_what_a_provider_can_do_is_passed_on() -> None:
    inner = FullProvider()
    guarded = guard(inner)
    assert await guarded.create(SPEC, timeout=5) == KEY
    assert await guarded.find({}, timeout=5) == [URI]
    assert await guarded.describe(URI, timeout=5) == KEY
    await guarded.aclose()
    assert inner.closed == 1
