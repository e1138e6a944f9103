"""C123, C127: recovery from lost sessions, logins, tokens and modules."""

from __future__ import annotations

import asyncio
import time

import pytest

from providers.pkcs11.pkcs11_support import (
    CLOSE_ALL_SESSIONS,
    ES256,
    FINALIZE,
    LOGOUT,
    SECONDS,
    created,
    guarded,
    module_of,
    opened,
    raw_call,
    signed,
    slot_and_session,
)
from sealwright.errors import (
    OverloadedError,
    ProviderKeyMissingError,
    ProviderTimeoutError,
    ProviderUnavailableError,
)
from sealwright_providers.pkcs11 import cryptoki
from sealwright_providers.pkcs11.provider import Pkcs11Provider
from sealwright_testing.nss import NssToken
from sealwright_testing.pkcs11_faults import Call, FaultyModule
from sealwright_testing.softhsm import SoftHsm
from support.waiting import until

DEVICE_ERROR, DEVICE_REMOVED, SESSION_HANDLE_INVALID, SESSION_COUNT, TOKEN_NOT_PRESENT = 0x30, 0x32, 0xB3, 0xB1, 0xE0
GENERAL_ERROR, KEY_HANDLE_INVALID, NOT_INITIALISED, USER_NOT_LOGGED_IN, VENDOR = 0x5, 0x60, 0x190, 0x101, 0x80000001


@pytest.fixture(autouse=True)
def quick_resets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cryptoki, "LONGEST_PAUSE", 0.1)


async def settled() -> None:
    """Wait for the longest pause after an initialisation of the module."""
    await asyncio.sleep(0.12)


async def hurt(provider: Pkcs11Provider, what: str) -> None:
    slot, session = await slot_and_session(provider)
    match what:
        case "sessions":
            assert raw_call(provider, CLOSE_ALL_SESSIONS, slot) == 0
        case "login":
            assert raw_call(provider, LOGOUT, session) == 0
        case _:
            assert raw_call(provider, FINALIZE) == 0


@pytest.mark.parametrize("what", ["sessions", "login", "module"])
async def test_c123_a_signature_after_a_loss_is_made(provider: Pkcs11Provider, what: str) -> None:
    key = await created(provider)
    for _ in range(3):
        await asyncio.gather(*(signed(provider, key, text=str(n)) for n in range(20)))
        await hurt(provider, what)
        await signed(provider, key)
        await hurt(provider, what)
        await asyncio.gather(*(signed(provider, key, text=str(n)) for n in range(50)))
        await hurt(provider, what)
        assert await provider.describe(key.uri, timeout=SECONDS) == key
        await hurt(provider, what)
        await provider.check(timeout=SECONDS)
        await hurt(provider, what)
        await created(provider)


@pytest.mark.parametrize("what", ["sessions", "login", "module"])
async def test_c123_nss_comes_back_too(nss: NssToken, what: str) -> None:
    async with opened(nss.settings(sessions=2)) as provider:
        key = await created(provider)
        for _ in range(3):
            await asyncio.gather(*(signed(provider, key, text=str(n)) for n in range(10)))
            await settled()
            await hurt(provider, what)
            await signed(provider, key)


async def test_c123_no_key_is_called_missing_while_we_are_logged_out(provider: Pkcs11Provider) -> None:
    """When logged out, a token reports that a private key does not exist."""
    first, second = await created(provider), await created(provider)
    await signed(provider, first)
    await hurt(provider, "login")
    await signed(provider, second)
    await hurt(provider, "login")
    assert set(await provider.find({"sealwright:intent": "i1"}, timeout=SECONDS)) == {first.uri, second.uri}


@pytest.mark.parametrize(
    "value",
    [
        SESSION_HANDLE_INVALID,
        DEVICE_REMOVED,
        TOKEN_NOT_PRESENT,
        KEY_HANDLE_INVALID,
        NOT_INITIALISED,
        USER_NOT_LOGGED_IN,
    ],
)
async def test_c123_a_fault_is_mended_within_the_call(
    fragile: Pkcs11Provider, faults: FaultyModule, value: int
) -> None:
    key = await created(fragile)
    await signed(fragile, key)
    await settled()
    faults.fail(Call.SIGN_INIT, value, 1)
    await signed(fragile, key)
    assert faults.intrusions == 0


async def test_c123_what_does_not_help_is_not_repeated(fragile: Pkcs11Provider, faults: FaultyModule) -> None:
    key = await created(fragile)
    await signed(fragile, key)
    await settled()
    logins = faults.count(Call.LOGIN)
    for value, error in (
        (SESSION_HANDLE_INVALID, ProviderUnavailableError),
        (DEVICE_REMOVED, ProviderUnavailableError),
        (KEY_HANDLE_INVALID, ProviderKeyMissingError),
        (USER_NOT_LOGGED_IN, ProviderUnavailableError),
    ):
        before = faults.count(Call.SIGN_INIT)
        faults.fail(Call.SIGN_INIT, value)
        with pytest.raises(error):
            await signed(fragile, key)
        assert faults.count(Call.SIGN_INIT) - before == 2
        faults.mend()
        await signed(fragile, key)
    assert faults.count(Call.LOGIN) - logins < 15


async def test_nobody_is_inside_when_a_module_is_reset(fragile: Pkcs11Provider, faults: FaultyModule) -> None:
    key = await created(fragile)
    await asyncio.gather(signed(fragile, key), signed(fragile, key))
    for value in (SESSION_HANDLE_INVALID, DEVICE_REMOVED):
        await settled()
        faults.delay(Call.SIGN, 200)
        slow = asyncio.create_task(signed(fragile, key))
        await asyncio.sleep(0.05)
        faults.fail(Call.SIGN_INIT, value, 1)
        await signed(fragile, key)
        await slow
        faults.mend()
    assert faults.intrusions == 0


async def test_recovery_is_made_once_for_all(fragile: Pkcs11Provider, faults: FaultyModule) -> None:
    key = await created(fragile)
    await asyncio.gather(*(signed(fragile, key) for _ in range(10)))
    logins, finals = faults.count(Call.LOGIN), faults.count(Call.FINALIZE)
    await hurt(fragile, "module")
    await asyncio.gather(*(signed(fragile, key) for _ in range(50)))
    assert faults.count(Call.LOGIN) - logins == 1
    # One by the test, one before the module is initialised again.
    assert faults.count(Call.FINALIZE) - finals <= 2


@pytest.mark.parametrize("value", [DEVICE_ERROR, GENERAL_ERROR, VENDOR])
async def test_f51_a_device_that_fails_is_left_alone_at_first_and_then_reset(
    fragile: Pkcs11Provider, faults: FaultyModule, value: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await created(fragile)
    await signed(fragile, key)
    now = time.monotonic() + 1  # the pause after the first initialisation is over
    monkeypatch.setattr(cryptoki, "stopwatch", lambda: now)
    faults.fail(Call.SIGN_INIT, value)
    before, finals = faults.count(Call.SIGN_INIT), faults.count(Call.FINALIZE)
    for calls in (1, 2, 3):
        with pytest.raises(ProviderUnavailableError):
            await signed(fragile, key)
        # CKR_DEVICE_ERROR may mean "too many requests", so no call is repeated.
        assert faults.count(Call.SIGN_INIT) - before == calls
        assert faults.count(Call.FINALIZE) == finals
    for _ in range(10):
        with pytest.raises(ProviderUnavailableError):
            await signed(fragile, key)
    assert faults.count(Call.FINALIZE) - finals == 1, "the pause after the reset is not over"
    now += 1
    with pytest.raises(ProviderUnavailableError):
        await signed(fragile, key)
    assert faults.count(Call.FINALIZE) - finals == 2, "it is over"
    faults.mend()
    await signed(fragile, key)


async def test_c127_a_dead_hsm_is_asked_once_a_second(
    fragile: Pkcs11Provider, faults: FaultyModule, hsm: SoftHsm
) -> None:
    key = await created(fragile)
    guard = guarded(fragile, hsm.settings(module=faults.path))
    await guard.sign(key.uri, ES256, b"h.p", timeout=1)
    faults.fail(Call.SIGN_INIT, DEVICE_ERROR)
    while not guard.breaker.open:
        with pytest.raises(ProviderUnavailableError):
            await guard.sign(key.uri, ES256, b"h.p", timeout=1)
    before, start = faults.count(Call.SIGN_INIT), time.monotonic()
    while time.monotonic() < start + 2.5:
        with pytest.raises(ProviderUnavailableError):
            await guard.sign(key.uri, ES256, b"h.p", timeout=1)
        await asyncio.sleep(0.01)
    assert faults.count(Call.SIGN_INIT) - before <= 1 + time.monotonic() - start
    faults.mend()
    await asyncio.sleep(1.05)  # The breaker's pause.
    await guard.sign(key.uri, ES256, b"h.p", timeout=1)


async def test_an_hsm_that_hangs_fails_fast_and_stops_nobody_else(
    fragile: Pkcs11Provider, faults: FaultyModule, hsm: SoftHsm
) -> None:
    key = await created(fragile)
    await signed(fragile, key)
    guard = guarded(fragile, hsm.settings(module=faults.path, timeout="200ms"))
    faults.delay(Call.SIGN, 60_000)
    start = time.monotonic()
    outcomes = await asyncio.gather(
        *(guard.sign(key.uri, ES256, b"h.p", timeout=5) for _ in range(20)), return_exceptions=True
    )
    assert time.monotonic() - start < 4
    assert {type(o) for o in outcomes} <= {ProviderTimeoutError, ProviderUnavailableError, OverloadedError}
    # Also without the guard: no thread is left, which is reported at once.
    start = time.monotonic()
    for _ in range(100):
        with pytest.raises(ProviderUnavailableError, match="hangs"):
            await fragile.sign(key.uri, ES256, b"h.p", timeout=SECONDS)
    assert time.monotonic() - start < 3
    assert len(fragile._process.lanes._running) == 2
    faults.delay(Call.SIGN, 0)
    await until(lambda: not any(fragile._process.lanes._running.values()))
    await signed(fragile, key)
    assert faults.intrusions == 0


async def test_one_call_that_hangs_takes_one_session(fragile: Pkcs11Provider, faults: FaultyModule) -> None:
    key = await created(fragile)
    await asyncio.gather(signed(fragile, key), signed(fragile, key))
    faults.delay(Call.SIGN, 60_000)
    with pytest.raises(ProviderTimeoutError):
        await fragile.sign(key.uri, ES256, b"h.p", timeout=0.1)
    # Calls that wait in the same function continue. The one above does not notice yet.
    faults.delay(Call.SIGN, 0)
    await signed(fragile, key)


async def test_sessions_that_are_lost_while_a_call_hangs_come_back_after_it(
    fragile: Pkcs11Provider, faults: FaultyModule
) -> None:
    key = await created(fragile)
    await asyncio.gather(*(signed(fragile, key) for _ in range(8)))
    faults.delay(Call.SIGN, 60_000)
    with pytest.raises(ProviderTimeoutError):
        await fragile.sign(key.uri, ES256, b"h.p", timeout=0.1)
    faults.fail(Call.SIGN_INIT, SESSION_HANDLE_INVALID)
    start = time.monotonic()
    with pytest.raises(ProviderUnavailableError, match="hangs"):
        await fragile.sign(key.uri, ES256, b"h.p", timeout=SECONDS)
    assert time.monotonic() - start < 3
    assert faults.intrusions == 0
    faults.mend()
    await until(lambda: not any(fragile._process.lanes._running.values()))
    await signed(fragile, key)


async def test_closing_does_not_wait_for_a_call_that_hangs(faults: FaultyModule, hsm: SoftHsm) -> None:
    async with opened(hsm.settings(module=faults.path)) as provider:
        key = await created(provider)
        faults.delay(Call.SIGN, 60_000)
        with pytest.raises(ProviderTimeoutError):
            await provider.sign(key.uri, ES256, b"h.p", timeout=0.1)
        start = time.monotonic()
        await provider.aclose()
        await provider.aclose()
        assert time.monotonic() - start < 4
        with pytest.raises(ProviderUnavailableError, match="closed"):
            await provider.check(timeout=1)
        faults.delay(Call.SIGN, 0)
        await until(lambda: not provider._process.lanes._running)
        # The module was not released, so the next provider that opens it finds it unchanged.
        provider._process.module.release(time.monotonic() + 1)
    assert faults.intrusions == 0


async def test_a_token_with_few_sessions_is_used_with_those(fragile: Pkcs11Provider, faults: FaultyModule) -> None:
    key = await created(fragile)
    # A thread that has no work yet has no session either, so it may be one of those that find none.
    before = len(fragile._process.lanes._running)
    faults.fail(Call.OPEN_SESSION, SESSION_COUNT)
    faults.delay(Call.SIGN, 5)
    await asyncio.gather(*(signed(fragile, key) for _ in range(20)))
    assert 1 <= len(fragile._process.lanes._running) <= before < 20


async def test_a_token_without_any_session_left_is_unavailable(faults: FaultyModule, hsm: SoftHsm) -> None:
    async with opened(hsm.settings(module=faults.path)) as provider:
        faults.fail(Call.OPEN_SESSION, SESSION_COUNT)
        for _ in range(3):
            with pytest.raises(ProviderUnavailableError, match="too many are open"):
                await provider.check(timeout=SECONDS)
        faults.mend()
        await provider.check(timeout=SECONDS)


async def test_a_token_that_goes_and_comes_back(provider: Pkcs11Provider, hsm: SoftHsm) -> None:
    key = await created(provider)
    await signed(provider, key)
    away = hsm.directory / "away"
    hsm.tokens.rename(away)
    end = time.monotonic() + 1
    while time.monotonic() < end:
        with pytest.raises(ProviderUnavailableError):
            await signed(provider, key)
        with pytest.raises(ProviderUnavailableError):
            await provider.check(timeout=SECONDS)
        await asyncio.sleep(0.05)
    away.rename(hsm.tokens)
    await back(provider, key.uri)
    await signed(provider, key)


async def test_a_token_that_comes_back_before_it_was_missed(provider: Pkcs11Provider, hsm: SoftHsm) -> None:
    key = await created(provider)
    await signed(provider, key)
    hsm.tokens.rename(hsm.directory / "away")
    with pytest.raises(ProviderUnavailableError):
        await signed(provider, key)
    (hsm.directory / "away").rename(hsm.tokens)
    await back(provider, key.uri)


async def test_a_token_that_is_made_later_is_found(hsm: SoftHsm) -> None:
    async with opened(hsm.settings(token_label="later")) as provider:
        with pytest.raises(ProviderUnavailableError, match="no slot"):
            await provider.check(timeout=SECONDS)
        hsm.init_token("later")
        await settled()
        await signed(provider, await created(provider))


async def back(provider: Pkcs11Provider, uri: str) -> None:
    """Wait until a key signs again. Until then, every error must be one that a retry can fix."""
    end = time.monotonic() + 4
    while True:
        try:
            await provider.sign(uri, ES256, b"h.p", timeout=SECONDS)
        except ProviderUnavailableError:
            if time.monotonic() >= end:
                raise
            await asyncio.sleep(0.05)
        else:
            return


async def test_two_providers_share_a_module(hsm: SoftHsm) -> None:
    hsm.init_token("second")
    async with opened(hsm.settings()) as one, opened(hsm.settings(token_label="second")) as two:
        first, second = await created(one), await created(two)
        assert module_of(one) is module_of(two)
        for what in ("sessions", "login", "module"):
            await hurt(one, what)
            await asyncio.gather(*(signed(p, k) for _ in range(20) for p, k in ((one, first), (two, second))))
        await one.aclose()
        await signed(two, second)


async def test_two_providers_share_a_token(hsm: SoftHsm) -> None:
    async with opened(hsm.settings()) as one, opened(hsm.settings(sessions=2)) as two:
        key = await created(one)
        for what in ("sessions", "login", "module", "sessions"):
            await hurt(two, what)
            await asyncio.gather(*(signed(p, key) for _ in range(20) for p in (one, two)))
