from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from providers.aws_provider_support import ACCOUNT, ES256, SECONDS, arn_of, ask, guarded, make, opened, took
from sealwright.errors import (
    ProviderAccessDeniedError,
    ProviderError,
    ProviderKeyDisabledError,
    ProviderKeyMissingError,
    ProviderKeyPendingError,
    ProviderThrottledError,
    ProviderTimeoutError,
    ProviderUnavailableError,
    ProviderUnsupportedError,
    SignatureRejectedError,
)
from sealwright_providers.aws.errors import CredentialsRefusedError
from sealwright_providers.aws.provider import AwsProvider
from sealwright_testing.emulators.aws import AwsEmulator, KeyState
from support.waiting import until

SECRET = "arn:aws:iam::111122223333:user/secret is not authorized"
KEY = f"awskms:///arn:aws:kms:eu-west-1:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = KEY.removeprefix("awskms:///").encode()
OTHER = ARN[:-1] + b"c"

CODES: list[tuple[str, int, type[ProviderError]]] = [
    ("ThrottlingException", 400, ProviderThrottledError),
    ("LimitExceededException", 400, ProviderThrottledError),
    ("", 429, ProviderThrottledError),
    ("AccessDeniedException", 400, ProviderAccessDeniedError),
    ("UnrecognizedClientException", 400, CredentialsRefusedError),
    ("InvalidSignatureException", 400, CredentialsRefusedError),
    ("SomethingOfAProxy", 403, ProviderAccessDeniedError),
    ("ExpiredTokenException", 400, ProviderUnavailableError),
    ("NotFoundException", 400, ProviderKeyMissingError),
    ("com.amazonaws.kms#NotFoundException", 400, ProviderKeyMissingError),
    ("NotFoundException:http://internal.amazon.com/coral/", 400, ProviderKeyMissingError),
    ("DisabledException", 400, ProviderKeyDisabledError),
    ("KMSInvalidStateException", 400, ProviderKeyPendingError),
    ("InvalidKeyUsageException", 400, ProviderUnsupportedError),
    ("ValidationException", 400, ProviderUnsupportedError),
    ("KMSInternalException", 500, ProviderUnavailableError),
    ("KeyUnavailableException", 500, ProviderUnavailableError),
    ("DependencyTimeoutException", 503, ProviderUnavailableError),
    ("NeverHeardOfException", 400, ProviderUnavailableError),
    ("", 503, ProviderUnavailableError),
]


def assert_discreet(error: BaseException | None, caplog: pytest.LogCaptureFixture) -> None:
    """Check that neither texts of AWS nor our account and keys are in an error, its causes or the log."""
    assert isinstance(error, ProviderError)
    texts = [str(error), error.message, repr(error), *error.metadata.values(), caplog.text]
    for text in texts:
        assert not any(secret in text for secret in ("arn:", ACCOUNT, "not authorized", "test", "Exception"))
    assert "arn:" not in f"{error.__cause__!r}"


@pytest.mark.parametrize(("code", "status", "expected"), CODES)
async def test_every_error_of_aws_kms_is_one_of_ours_and_says_nothing_of_its_text(  # noqa: PLR0917 - fixtures
    provider: AwsProvider,
    emulator: AwsEmulator,
    caplog: pytest.LogCaptureFixture,
    code: str,
    status: int,
    expected: type[ProviderError],
) -> None:
    caplog.set_level(logging.INFO)
    emulator.add_fault("error", operation="Sign", type=code, status=status, message=SECRET)
    with pytest.raises(ProviderError) as refused:
        await provider.sign(KEY, ES256, b"a.b", timeout=SECONDS)
    assert type(refused.value) is expected
    assert_discreet(refused.value, caplog)


async def test_c48_a_disabled_key_and_one_pending_deletion_do_not_sign(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    for state in (KeyState.DISABLED, KeyState.PENDING_DELETION):
        key = await make(provider)
        emulator.set_key_state(arn_of(key), state)
        with pytest.raises(ProviderKeyDisabledError):
            await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)


async def test_a_key_for_encryption_does_not_sign(provider: AwsProvider) -> None:
    made = await ask(provider, "CreateKey", KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    with pytest.raises(ProviderUnsupportedError):
        await provider.sign(f"awskms:///{made['KeyMetadata']['Arn']}", ES256, b"a.b", timeout=SECONDS)


async def test_throttling_carries_the_seconds_that_the_answer_names(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    emulator.add_fault("throttle", operation="Sign", times=1, retry_after=7)
    emulator.add_fault("throttle", operation="Sign", times=1)
    for seconds in (7.0, None):
        with pytest.raises(ProviderThrottledError) as refused:
            await provider.sign(KEY, ES256, b"a.b", timeout=SECONDS)
        assert refused.value.retry_after == seconds


@pytest.mark.parametrize("fault", ["drop_connection", "malformed_json", "http_500"])
async def test_a_broken_answer_is_an_outage_and_no_alarm(
    provider: AwsProvider, emulator: AwsEmulator, caplog: pytest.LogCaptureFixture, transport: str, fault: str
) -> None:
    key = await make(provider)
    # A connection that dies is replaced once. boto3 does not tell an answer that was cut from one that is not JSON.
    repeated = fault == "drop_connection" or (transport == "boto3" and fault == "malformed_json")
    emulator.add_fault(fault, operation="Sign", times=2 if repeated else 1)
    with pytest.raises(ProviderUnavailableError) as refused:
        await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert_discreet(refused.value, caplog)
    assert (await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value


async def test_nobody_listens(transport: str) -> None:
    async with opened("http://127.0.0.1:9", transport=transport) as provider:
        with pytest.raises(ProviderUnavailableError):
            await provider.sign(KEY, ES256, b"a.b", timeout=SECONDS)


async def test_c110_a_call_that_hangs_ends_with_its_deadline_and_holds_nothing(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    key = await make(provider)
    threads = threading.active_count()
    emulator.add_fault("hang", operation="Sign", times=3)
    for _ in range(3):
        error, seconds = await took(provider.sign(key.uri, ES256, b"a.b", timeout=0.2))
        assert type(error) is ProviderTimeoutError
        assert 0.2 <= seconds < 2
    error, seconds = await took(provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS))
    assert error is None
    assert seconds < 2
    assert threading.active_count() <= threads + 4


async def test_a_slow_answer_within_the_deadline_is_taken(provider: AwsProvider, emulator: AwsEmulator) -> None:
    key = await make(provider)
    emulator.add_fault("delay", operation="Sign", seconds=0.2)
    error, seconds = await took(provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS))
    assert error is None
    assert seconds >= 0.2


async def test_c128_nothing_is_sent_once_the_deadline_has_passed(provider: AwsProvider, emulator: AwsEmulator) -> None:
    key = await make(provider)
    emulator.reset_calls()
    for timeout in (0.0, -1.0):
        for call in (provider.sign(key.uri, ES256, b"a.b", timeout=timeout), provider.check(timeout=timeout)):
            with pytest.raises(ProviderTimeoutError):
                await call
        with pytest.raises(ProviderTimeoutError):
            await provider.describe(key.uri, timeout=timeout)
    await asyncio.sleep(0.05)
    assert not emulator.calls


async def test_a_cancelled_call_closes_its_connection_and_leaves_nothing_behind(
    http: AwsProvider, emulator: AwsEmulator
) -> None:
    key = await make(http)
    tasks, threads = asyncio.all_tasks(), threading.active_count()
    emulator.add_fault("delay", operation="Sign", seconds=60)
    calls = [asyncio.create_task(http.sign(key.uri, ES256, b"a.b", timeout=30)) for _ in range(20)]
    await until(lambda: emulator.calls.get("Sign", 0) == 20)
    for call in calls:
        call.cancel()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(r, asyncio.CancelledError) for r in results)
    # The emulator notices that every client disconnects, and ends its handlers.
    await until(lambda: [r.outcome for r in emulator.requests if r.operation == "Sign"] == ["gone"] * 20)
    emulator.clear_faults()
    await until(lambda: not asyncio.all_tasks() - tasks)
    assert threading.active_count() == threads
    assert (await http.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value


@asynccontextmanager
async def answering(status: int, body: bytes, headers: dict[str, str] | None = None) -> AsyncIterator[str]:
    """Serve the same answer to every request."""

    async def handle(_request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(_request)
        for start in range(0, len(body), 1000):
            await response.write(body[start : start + 1000])
            if start < 20_000:
                await asyncio.sleep(0)
        return response

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (307, b"", ProviderUnavailableError),
        (200, b"", ProviderUnavailableError),
        (200, b"{}", ProviderUnavailableError),
        (200, b'{"Signature": "AAAA", "KeyId": "k", "SigningAlgorithm": "SM2DSA"}', SignatureRejectedError),
        (200, b'{"Signature": 5}', ProviderUnavailableError),
        (200, b"[]", ProviderUnavailableError),
        (200, b"<html>captive portal</html>", ProviderUnavailableError),
        (200, b"[" * 200_000, ProviderUnavailableError),
        (200, b" " * 3_000_000, ProviderUnavailableError),
        (502, b"<html>", ProviderUnavailableError),
        (400, b'{"__type": ["x"]}', ProviderUnavailableError),
    ],
)
async def test_an_answer_that_is_not_one_of_aws_kms_is_a_typed_error(
    transport: str, status: int, body: bytes, expected: type[ProviderError]
) -> None:
    async with answering(status, body) as endpoint, opened(endpoint, transport=transport) as provider:
        with pytest.raises(ProviderError) as refused:
            await provider.sign(KEY, ES256, b"a.b", timeout=SECONDS)
        assert type(refused.value) is expected


async def test_a_signature_that_is_no_base64_is_an_outage() -> None:
    async with answering(200, b'{"Signature": "!!!", "KeyId": "k"}') as endpoint, opened(endpoint) as provider:
        with pytest.raises(ProviderUnavailableError):
            await provider.sign(KEY, ES256, b"a.b", timeout=SECONDS)


async def test_a_redirection_is_not_followed_with_a_signed_request(emulator: AwsEmulator, transport: str) -> None:
    async with (
        answering(307, b"", {"Location": f"{emulator.endpoint}/"}) as endpoint,
        opened(endpoint, transport=transport) as provider,
    ):
        with pytest.raises(ProviderUnavailableError):
            await provider.sign(KEY, ES256, b"a.b", timeout=SECONDS)
    assert not emulator.calls


async def test_an_answer_that_arrives_in_pieces_is_read_whole() -> None:
    padding = b'"pad": "' + b"x" * 50_000 + b'"'
    body = b'{"Signature": "AAAA", "KeyId": "k", "SigningAlgorithm": "ECDSA_SHA_256", ' + padding + b"}"
    async with answering(200, body) as endpoint, opened(endpoint) as provider:
        assert (await provider.sign(KEY, ES256, b"a.b", timeout=SECONDS)).value == b"\0\0\0"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"KeyMetadata": []}',
        b'{"KeyMetadata": {}}',
        b'{"KeyMetadata": {"Arn": 1}}',
        b'{"KeyMetadata": {"Arn": "%s"}, "PublicKey": "AAAA", "KeyId": "%s"}' % (OTHER, OTHER),
        b'{"KeyMetadata": {"Arn": "%s"}, "KeyId": "k"}' % ARN,
        b'{"KeyMetadata": {"Arn": "%s"}, "PublicKey": "AAAA", "KeyId": "%s", "SigningAlgorithms": {"a": 1}}'
        % (ARN, ARN),
        b'{"Keys": {}}',
        b'{"Keys": [1]}',
        b'{"Keys": [{}]}',
        b'{"Keys": [], "Truncated": true}',
    ],
)
async def test_a_description_or_list_of_another_shape_is_a_typed_error(body: bytes) -> None:
    async with answering(200, body) as endpoint, opened(endpoint) as provider:
        for call in (provider.describe(KEY, timeout=SECONDS), provider.find({"a": "b"}, timeout=SECONDS)):
            with pytest.raises(ProviderUnavailableError):
                await call


async def test_a_description_without_a_state_is_that_of_a_key_whose_public_key_can_be_had() -> None:
    body = b'{"KeyMetadata": {"Arn": "%s"}, "PublicKey": "AAAA", "KeyId": "%s"}' % (ARN, ARN)
    async with answering(200, body) as endpoint, opened(endpoint) as provider:
        found = await provider.describe(KEY, timeout=SECONDS)
    assert (found.uri, found.public_key, found.algorithms) == (KEY, b"\0\0\0", frozenset())


async def test_a_key_for_key_agreement_is_not_described_as_one_that_signs() -> None:
    metadata = b'{"Arn": "%s", "KeyUsage": "KEY_AGREEMENT", "KeySpec": "ECC_NIST_P256"}' % ARN
    body = b'{"KeyMetadata": %s, "PublicKey": "AAAA", "KeyId": "%s", "SigningAlgorithms": ["ECDSA_SHA_256"]}'
    async with answering(200, body % (metadata, ARN)) as endpoint, opened(endpoint) as provider:
        assert (await provider.describe(KEY, timeout=SECONDS)).algorithms == frozenset()


async def test_a_check_passes_where_kms_answers_and_the_credentials_are_somebodys(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    await provider.check(timeout=SECONDS)
    emulator.add_fault("error", operation="ListKeys", type="AccessDeniedException", times=1)
    await provider.check(timeout=SECONDS)
    for code, expected in (
        ("UnrecognizedClientException", ProviderAccessDeniedError),
        ("KMSInternalException", ProviderUnavailableError),
    ):
        emulator.add_fault("error", operation="ListKeys", type=code, times=2)
        with pytest.raises(expected):
            await provider.check(timeout=SECONDS)
        emulator.clear_faults()


async def test_c49_a_disabled_key_is_asked_once_a_request_and_takes_no_other_down(
    provider: AwsProvider, emulator: AwsEmulator
) -> None:
    guard = guarded(provider)
    dead, alive = await make(provider), await make(provider)
    await provider.disable(dead.uri, timeout=SECONDS)
    for _ in range(10):
        with pytest.raises(ProviderKeyDisabledError) as refused:
            await guard.sign(dead.uri, ES256, b"a.b", timeout=SECONDS)
        assert refused.value.retry_after is None
        assert refused.value.metadata == {"provider": "aws-eu"}
        assert (await guard.sign(alive.uri, ES256, b"a.b", timeout=SECONDS)).value
    await provider.check(timeout=SECONDS)
    assert emulator.calls_for(arn_of(dead))["Sign"] == 10


async def test_c109_throttling_makes_no_storm(provider: AwsProvider, emulator: AwsEmulator) -> None:
    guard = guarded(provider)
    key = await make(provider)
    emulator.reset_calls()
    emulator.add_fault("throttle", operation="Sign")
    results = await asyncio.gather(
        *(guard.sign(key.uri, ES256, b"a.b", timeout=SECONDS) for _ in range(100)), return_exceptions=True
    )
    assert {type(r) for r in results} == {ProviderThrottledError}
    assert all(isinstance(r, ProviderThrottledError) and (r.retry_after or 0) > 0 for r in results)
    assert emulator.calls["Sign"] <= 200
    assert not guard.breaker.open
