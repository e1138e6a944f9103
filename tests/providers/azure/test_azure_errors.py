from __future__ import annotations

import asyncio
import logging
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from providers.azure.azure_support import ES256, INTENT, SECONDS, guarded, make, name_of, opened, took
from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
)
from sealwright_providers.azure.errors import CredentialsRefusedError, seconds_of
from sealwright_providers.azure.provider import AzureProvider
from sealwright_providers.azure.settings import AzureSettings
from sealwright_testing.emulators.azure import AzureEmulator
from support.waiting import until

SECRET = "Vault: secret-vault;location=westeurope; Caller: appid=11111111-2222-4333-8444-555555555555"

ANSWERS: list[tuple[int, str, str | None, str, type[ProviderError]]] = [
    (400, "BadParameter", None, SECRET, ProviderUnsupportedError),
    (400, "", None, SECRET, ProviderUnsupportedError),
    (401, "Unauthorized", None, SECRET, CredentialsRefusedError),
    (403, "Forbidden", "ForbiddenByRbac", SECRET, ProviderAccessDeniedError),
    (403, "Forbidden", "AccessDenied", SECRET, ProviderAccessDeniedError),
    (403, "Forbidden", "ForbiddenByFirewall", SECRET, ProviderAccessDeniedError),
    (403, "", None, SECRET, ProviderAccessDeniedError),
    (403, "Forbidden", "KeyDisabled", SECRET, ProviderKeyDisabledError),
    (403, "Forbidden", "KeyNotYetValid", SECRET, ProviderKeyDisabledError),
    (403, "Forbidden", "KeyExpired", SECRET, ProviderKeyDisabledError),
    (403, "KeyDisabled", None, SECRET, ProviderKeyDisabledError),
    (403, "Forbidden", None, "Operation sign is not allowed on a disabled key.", ProviderKeyDisabledError),
    (403, "Forbidden", None, "Operation sign is not allowed on an expired key.", ProviderKeyDisabledError),
    (403, "Forbidden", "KeyOperationForbidden", SECRET, ProviderUnsupportedError),
    (409, "Conflict", "ObjectIsDeletedButRecoverable", SECRET, ProviderKeyDisabledError),
    (409, "Conflict", "ObjectIsBeingDeleted", SECRET, ProviderKeyDisabledError),
    (409, "ConflictError", None, "requests on the same item", ProviderUnavailableError),
    (404, "KeyNotFound", None, SECRET, ProviderKeyMissingError),
    (404, "", None, SECRET, ProviderKeyMissingError),
    (429, "Throttled", "VaultRequestTypeLimitReached", SECRET, ProviderThrottledError),
    (429, "", None, SECRET, ProviderThrottledError),
    (500, "InternalServerError", None, SECRET, ProviderUnavailableError),
    (502, "", None, SECRET, ProviderUnavailableError),
    (302, "", None, SECRET, ProviderUnavailableError),
]


def assert_discreet(error: BaseException | None, caplog: pytest.LogCaptureFixture) -> None:
    """Check that nothing of Azure's own words, or of our vault and identity, is in an error or the log."""
    assert isinstance(error, ProviderError)
    for text in (str(error), error.message, repr(error), *error.metadata.values(), caplog.text):
        assert not any(
            s in text for s in ("secret-vault", "11111111", "https:", ".vault.", "localhost", "appid", "AADSTS")
        )


@pytest.mark.parametrize(("status", "code", "inner", "message", "expected"), ANSWERS)
async def test_every_error_of_key_vault_is_one_of_ours_and_says_nothing_of_its_text(  # noqa: PLR0917 - fixtures
    azure: AzureProvider,
    vault: AzureEmulator,
    caplog: pytest.LogCaptureFixture,
    status: int,
    code: str,
    inner: str | None,
    message: str,
    expected: type[ProviderError],
) -> None:
    caplog.set_level(logging.INFO)
    key = await make(azure)
    vault.add_fault("error", operation="Sign", code=code, inner=inner, status=status, message=message)
    with pytest.raises(ProviderError) as refused:
        await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert type(refused.value) is expected
    assert_discreet(refused.value, caplog)


async def test_throttling_carries_the_seconds_that_the_answer_names(azure: AzureProvider, vault: AzureEmulator) -> None:
    key = await make(azure)
    vault.add_fault("throttle", operation="Sign", times=1, retry_after=30)
    vault.add_fault("throttle", operation="Sign", times=1)
    for seconds in (30.0, None):
        error, duration = await took(azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS))
        assert isinstance(error, ProviderThrottledError)
        assert error.retry_after == seconds
        assert duration < 1
    assert vault.calls["Sign"] == 2


def test_retry_after_is_seconds_or_a_date_and_bounded() -> None:
    assert (seconds_of("7"), seconds_of("99999"), seconds_of(None), seconds_of("")) == (7.0, 3600.0, None, None)
    assert seconds_of("soon") is None
    assert seconds_of("-1") is None
    assert 8 < (seconds_of(formatdate(time.time() + 10, usegmt=True)) or 0) <= 10
    assert seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") == 0


@pytest.mark.parametrize("fault", ["drop_connection", "malformed_json", "http_500"])
async def test_a_broken_answer_is_an_outage_and_no_alarm(
    azure: AzureProvider, vault: AzureEmulator, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    key = await make(azure)
    # A connection that dies is replaced once.
    vault.add_fault(fault, operation="Sign", times=2 if fault == "drop_connection" else 1)
    with pytest.raises(ProviderUnavailableError) as refused:
        await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert_discreet(refused.value, caplog)
    assert (await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value


async def test_nobody_at_the_vaults_address_is_an_outage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with AzureEmulator() as vault:
        pass
    async with (
        AzureEmulator() as alive,
        opened(alive, tmp_path, vault_url="https://sealwright.vault.localhost:1") as lost,
    ):
        with pytest.raises(ProviderUnavailableError) as refused:
            await lost.check(timeout=SECONDS)
    assert_discreet(refused.value, caplog)
    assert vault.ca


async def test_a_certificate_that_nobody_trusts_is_an_outage_and_gets_no_token(
    vault: AzureEmulator, tmp_path: Path
) -> None:
    async with opened(vault, tmp_path, ca_file=None) as stranger:
        with pytest.raises(ProviderUnavailableError):
            await stranger.check(timeout=SECONDS)
    assert not vault.calls


async def test_c49_a_disabled_key_is_asked_once_a_request_and_takes_no_other_down(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    dead, alive = await make(azure), await make(azure)
    vault.set_attributes(name_of(dead), enabled=False)
    guard = guarded(azure)
    for _ in range(10):
        with pytest.raises(ProviderKeyDisabledError):
            await guard.sign(dead.uri, ES256, b"a.b", timeout=SECONDS)
    assert vault.calls_for(name_of(dead))["Sign"] == 10
    assert not guard.breaker.open
    assert (await guard.sign(alive.uri, ES256, b"a.b", timeout=SECONDS)).key_uri == alive.uri


async def test_c109_throttling_makes_no_storm(azure: AzureProvider, vault: AzureEmulator) -> None:
    key = await make(azure)
    vault.add_fault("throttle", operation="Sign")
    guard = guarded(azure)
    calls = [guard.sign(key.uri, ES256, b"a.b", timeout=1) for _ in range(20)]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(a, ProviderThrottledError) and a.retry_after for a in answers)
    assert vault.calls["Sign"] <= 40


async def test_c109_the_seconds_that_azure_asks_for_are_honoured(azure: AzureProvider, vault: AzureEmulator) -> None:
    key = await make(azure)
    vault.add_fault("throttle", operation="Sign", times=1, retry_after=1)
    error, duration = await took(guarded(azure).sign(key.uri, ES256, b"a.b", timeout=3))
    assert error is None
    assert 1 <= duration < 2.5
    assert vault.calls["Sign"] == 2


async def test_c110_a_call_that_hangs_ends_with_its_deadline_and_holds_nothing(
    azure: AzureProvider, vault: AzureEmulator
) -> None:
    key = await make(azure)
    before = asyncio.all_tasks()
    vault.add_fault("hang", operation="Sign", times=5)
    for _ in range(5):
        error, duration = await took(azure.sign(key.uri, ES256, b"a.b", timeout=0.2))
        assert isinstance(error, ProviderTimeoutError)
        assert duration < 1
    assert (await azure.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value
    await until(lambda: not [t for t in asyncio.all_tasks() - before if "sign" in str(t.get_coro())])


async def test_c110_a_token_endpoint_that_hangs_ends_with_the_deadline_too(
    vault: AzureEmulator, tmp_path: Path
) -> None:
    vault.add_fault("hang", operation="Token", times=1)
    async with opened(vault, tmp_path) as provider:
        error, duration = await took(provider.check(timeout=0.3))
        assert isinstance(error, ProviderTimeoutError)
        assert duration < 1.5
        await provider.check(timeout=SECONDS)


async def test_c128_nothing_is_sent_once_the_deadline_has_passed(azure: AzureProvider, vault: AzureEmulator) -> None:
    key = await make(azure)
    vault.reset_calls()
    for seconds in (0.0, -1.0):
        for call in (
            azure.sign(key.uri, ES256, b"a.b", timeout=seconds),
            azure.describe(key.uri, timeout=seconds),
            azure.find({INTENT: "i"}, timeout=seconds),
            azure.disable(key.uri, timeout=seconds),
            azure.schedule_deletion(key.uri, timeout=seconds),
        ):
            with pytest.raises(ProviderTimeoutError):
                await call
    assert not vault.calls


async def test_c128_a_caller_that_leaves_cancels_the_request(azure: AzureProvider, vault: AzureEmulator) -> None:
    key = await make(azure)
    vault.add_fault("delay", operation="Sign", seconds=60)
    call = asyncio.ensure_future(azure.sign(key.uri, ES256, b"a.b", timeout=60))
    await until(lambda: vault.calls.get("Sign") == 1)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: vault.requests[-1].outcome == "gone")


async def test_c114_opening_asks_nothing_and_programs_started_under_load_do_not_hang(
    vault: AzureEmulator, tmp_path: Path
) -> None:
    async with opened(vault, tmp_path) as provider, signing(provider):
        for _ in range(20):
            done = await asyncio.to_thread(subprocess.run, ["/bin/true"], timeout=10, check=True)
            assert done.returncode == 0
    vault.reset_calls()
    async with opened(vault, tmp_path):
        await asyncio.sleep(0.1)
    assert not vault.calls


@asynccontextmanager
async def signing(provider: AzureProvider) -> AsyncIterator[None]:
    """Sign all the while."""
    key = await make(provider)

    async def sign() -> None:
        while True:
            await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)

    task = asyncio.ensure_future(sign())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait((task,))
        assert task.cancelled()


def test_the_longest_time_of_a_call_is_the_guards() -> None:
    assert AzureSettings(vault_url="https://a.vault.azure.net").timeout.total_seconds() == 3
