"""C124: one login per process, and a wrong PIN is never tried twice."""

from __future__ import annotations

import asyncio
from typing import Any

import pkcs11
import pytest
from pkcs11 import TokenFlag

from providers.pkcs11.pkcs11_support import ES256, SECONDS, created, in_token, opened, signed
from sealwright.errors import ProviderAccessDeniedError, ProviderUnavailableError
from sealwright_providers.pkcs11.errors import LoginRefusedError
from sealwright_providers.pkcs11.settings import Pkcs11Settings
from sealwright_providers.pkcs11.token import Token
from sealwright_testing.pkcs11_faults import Call, FaultyModule
from sealwright_testing.softhsm import SoftHsm

URI = "pkcs11:token=sealwright;id=%01;type=private"
PIN_INCORRECT, PIN_LOCKED, VENDOR, DEVICE_ERROR, ALREADY_LOGGED_IN = 0xA0, 0xA4, 0x80000042, 0x30, 0x100


async def test_c124_a_wrong_pin_is_tried_once_in_a_hundred_requests(faults: FaultyModule, hsm: SoftHsm) -> None:
    hsm.pin_file.write_text("wrong-pin\n", encoding="ascii")
    before = faults.count(Call.LOGIN)
    async with opened(hsm.settings(module=faults.path)) as provider:

        async def request() -> None:
            with pytest.raises(ProviderAccessDeniedError, match="PIN") as caught:
                await provider.sign(URI, ES256, b"h.p", timeout=SECONDS)
            assert "wrong-pin" not in str(caught.value)

        await asyncio.gather(*(request() for _ in range(50)))
        for _ in range(50):
            await request()
        with pytest.raises(ProviderAccessDeniedError):
            await provider.check(timeout=SECONDS)
        assert faults.count(Call.LOGIN) - before == 1
        # The right PIN in the file has no effect until the configuration is reloaded.
        hsm.pin_file.write_text(hsm.pin, encoding="ascii")
        await request()
    async with opened(hsm.settings(module=faults.path)) as provider:
        await provider.check(timeout=SECONDS)
    assert faults.count(Call.LOGIN) - before == 2


@pytest.mark.parametrize("value", [PIN_INCORRECT, PIN_LOCKED, VENDOR])
async def test_c124_whatever_may_be_counted_as_a_wrong_pin_ends_it(
    faults: FaultyModule, hsm: SoftHsm, value: int
) -> None:
    faults.fail(Call.LOGIN, value)
    before = faults.count(Call.LOGIN)
    async with opened(hsm.settings(module=faults.path)) as provider:
        for _ in range(5):
            with pytest.raises(LoginRefusedError):
                await provider.check(timeout=SECONDS)
    assert faults.count(Call.LOGIN) - before == 1


async def test_a_login_that_the_device_fails_is_tried_again(faults: FaultyModule, hsm: SoftHsm) -> None:
    faults.fail(Call.LOGIN, DEVICE_ERROR, 1)
    async with opened(hsm.settings(module=faults.path)) as provider:
        with pytest.raises(ProviderUnavailableError):
            await provider.check(timeout=SECONDS)
        await provider.check(timeout=SECONDS)


async def test_c124_already_logged_in_is_success(faults: FaultyModule, hsm: SoftHsm) -> None:
    async with opened(hsm.settings(module=faults.path)) as provider:
        key = await created(provider)
        token = provider._process.token

        def again(session: pkcs11.Session) -> None:
            class Blind:
                def __getattr__(self, name: str) -> Any:
                    return getattr(provider._process.module, name)

                def logged_in(self, _session: int) -> bool:
                    return False

            module, token._module = token._module, Blind()  # type: ignore[assignment]
            try:
                token._log_in(session)
            finally:
                token._module = module

        await in_token(provider, again)
        await signed(provider, key)


async def test_one_login_a_process(faults: FaultyModule, hsm: SoftHsm) -> None:
    before, opened_before = faults.count(Call.LOGIN), faults.count(Call.OPEN_SESSION)
    async with opened(hsm.settings(module=faults.path)) as one, opened(hsm.settings(module=faults.path)) as two:
        key = await created(one)
        await asyncio.gather(*(signed(p, key, text=str(n)) for n in range(100) for p in (one, two)))
        assert faults.count(Call.LOGIN) - before == 1
        sessions = faults.count(Call.OPEN_SESSION)
        await asyncio.gather(*(signed(p, key, text=str(n)) for n in range(100) for p in (one, two)))
        # At most the sessions that were not needed before.
        assert sessions <= faults.count(Call.OPEN_SESSION) <= opened_before + 16


@pytest.mark.parametrize("flag", [TokenFlag.USER_PIN_FINAL_TRY, TokenFlag.USER_PIN_LOCKED])
def test_the_last_try_of_a_pin_is_left_to_a_person(flag: TokenFlag) -> None:
    class Module:
        generation = 1

        def logged_in(self, _session: int) -> bool:
            return False

        def login(self, *_: Any) -> None:
            raise AssertionError("no login")

    class Session:
        handle = 1

        class token:  # noqa: N801
            flags = TokenFlag.LOGIN_REQUIRED

            class slot:  # noqa: N801
                @staticmethod
                def get_token() -> Any:
                    class Info:
                        flags = TokenFlag.LOGIN_REQUIRED | flag

                    return Info

    settings = Pkcs11Settings(module="/m.so", token_label="t", pin_env="PIN")
    token = Token(settings, b"1", Module())  # type: ignore[arg-type]
    for message in ("another tool", "refused"):
        with pytest.raises(LoginRefusedError, match=message):
            token._log_in(Session())  # type: ignore[arg-type]
