from __future__ import annotations

import asyncio
import logging
import socket
import subprocess
import sys
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, Self

import pytest

from providers.gcp.gcp_support import ES256, SCHEME, SECONDS, guarded, make, name_of, opened
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
from sealwright_providers.gcp.errors import CredentialsRefusedError, KeyExistsError, KeyPendingError
from sealwright_providers.gcp.provider import GcpProvider
from sealwright_testing.emulators.gcp import GcpEmulator

SECRET = "Permission 'cloudkms' denied on projects/secret-project/locations/x (or it may not exist)."
CODES: list[tuple[str, type[ProviderError]]] = [
    ("RESOURCE_EXHAUSTED", ProviderThrottledError),
    ("UNAVAILABLE", ProviderUnavailableError),
    ("DEADLINE_EXCEEDED", ProviderTimeoutError),
    ("PERMISSION_DENIED", ProviderAccessDeniedError),
    ("UNAUTHENTICATED", CredentialsRefusedError),
    ("NOT_FOUND", ProviderKeyMissingError),
    ("FAILED_PRECONDITION", ProviderKeyDisabledError),
    ("INVALID_ARGUMENT", ProviderUnsupportedError),
    ("OUT_OF_RANGE", ProviderUnsupportedError),
    ("UNIMPLEMENTED", ProviderUnsupportedError),
    ("ALREADY_EXISTS", KeyExistsError),
    ("INTERNAL", ProviderUnavailableError),
    ("UNKNOWN", ProviderUnavailableError),
    ("ABORTED", ProviderUnavailableError),
    ("DATA_LOSS", ProviderUnavailableError),
    ("CANCELLED", ProviderUnavailableError),
]


@pytest.mark.parametrize(
    ("fault", "detail"),
    [
        ({"code": "INTERNAL"}, "INTERNAL"),
        ({"code": "PERMISSION_DENIED"}, "PERMISSION_DENIED, IAM_PERMISSION_DENIED"),
        ({"code": "RESOURCE_EXHAUSTED"}, "RESOURCE_EXHAUSTED, RATE_LIMIT_EXCEEDED"),
        ({"code": "UNAVAILABLE", "request_id": "6f1d-2c"}, "UNAVAILABLE, request 6f1d-2c"),
        ({"code": "NOT_FOUND", "reason": "KEY_GONE", "request_id": "6f1d"}, "NOT_FOUND, KEY_GONE, request 6f1d"),
        ({"code": "NOT_FOUND", "reason": "projects/p/keyRings/r", "request_id": "a key's name"}, "NOT_FOUND"),
        ({"code": "NOT_FOUND", "reason": "X" * 65, "request_id": "x" * 65}, "NOT_FOUND"),
    ],
)
async def test_f25_the_log_has_the_reason_and_the_id_that_google_gives_and_no_text(
    provider: GcpProvider, emulator: GcpEmulator, fault: dict[str, Any], detail: str
) -> None:
    key = await make(provider)
    emulator.add_fault("error", operation="AsymmetricSign", message=SECRET, **fault)
    with pytest.raises(ProviderError) as caught:
        await provider.sign(key.uri, ES256, b"x", timeout=SECONDS)
    assert caught.value.detail == detail


@pytest.mark.parametrize(("code", "expected"), CODES)
async def test_every_code_of_google_is_one_of_ours_and_says_nothing_of_its_text(
    provider: GcpProvider,
    emulator: GcpEmulator,
    caplog: pytest.LogCaptureFixture,
    code: str,
    expected: type[ProviderError],
) -> None:
    caplog.set_level(logging.INFO)
    key = await make(provider)
    emulator.reset_calls()
    emulator.add_fault("error", operation="AsymmetricSign", code=code, message=SECRET)
    with pytest.raises(ProviderError) as refused:
        await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    assert type(refused.value) is expected
    assert emulator.calls == {"AsymmetricSign": 1}
    error = refused.value
    texts = (str(error), repr(error), repr(error.__cause__), repr(error.__context__), caplog.text)
    assert not any(word in text for text in texts for word in ("projects/", "cloudkms", "secret", "Rpc", "127.0.0.1"))


async def test_a_key_that_is_still_generated_is_told_from_a_disabled_one(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    key = await make(provider)
    emulator._version(name_of(key)).generate_time = float("inf")
    with pytest.raises(KeyPendingError):
        await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)


async def test_c109_a_quota_makes_throttled_errors_and_no_storm(emulator: GcpEmulator) -> None:
    async with opened(emulator) as provider:
        key = await make(provider)
        emulator.reset_calls()
        emulator.set_quota("crypto", 0)
        calls = [guarded(provider, emulator).sign(key.uri, ES256, b"a.b", timeout=SECONDS) for _ in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert {type(r) for r in results} == {ProviderThrottledError}
        assert all(r.retry_after is not None for r in results if isinstance(r, ProviderError))
        assert emulator.calls["AsymmetricSign"] <= 40


async def test_c109_the_seconds_of_a_retry_info_are_passed_on(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    emulator.add_fault("throttle", operation="AsymmetricSign", times=1, retry_after=7)
    emulator.add_fault("throttle", operation="AsymmetricSign", times=1)
    for seconds in (7.0, None):
        with pytest.raises(ProviderThrottledError) as refused:
            await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
        assert refused.value.retry_after == seconds


async def test_c49_a_disabled_key_costs_one_call_and_no_other_key(provider: GcpProvider, emulator: GcpEmulator) -> None:
    dead, live = await make(provider), await make(provider)
    await provider.disable(dead.uri, timeout=SECONDS)
    guard = guarded(provider, emulator)
    emulator.reset_calls()
    with pytest.raises(ProviderKeyDisabledError):
        await guard.sign(dead.uri, ES256, b"a.b", timeout=SECONDS)
    assert emulator.calls == {"AsymmetricSign": 1}
    assert (await guard.sign(live.uri, ES256, b"a.b", timeout=SECONDS)).value
    await provider.check(timeout=SECONDS)


@pytest.mark.parametrize("operation", ["AsymmetricSign", "GetCryptoKeyVersion", "GetPublicKey"])
async def test_c110_a_call_that_hangs_ends_with_its_own_deadline(
    provider: GcpProvider, emulator: GcpEmulator, operation: str
) -> None:
    key = await make(provider)
    emulator.add_fault("hang", operation=operation)
    start = time.monotonic()
    call: Coroutine[Any, Any, object] = provider.describe(key.uri, timeout=0.3)
    if operation == "AsymmetricSign":
        call.close()
        call = provider.sign(key.uri, ES256, b"a.b", timeout=0.3)
    with pytest.raises(ProviderTimeoutError):
        await call
    assert time.monotonic() - start < 1.5


async def test_c110_an_address_that_does_not_answer_costs_the_deadline_and_no_more(emulator: GcpEmulator) -> None:
    with socket.socket() as black_hole:
        black_hole.bind(("127.0.0.1", 0))
        black_hole.listen(0)
        endpoint = f"127.0.0.1:{black_hole.getsockname()[1]}"
        async with opened(emulator, endpoint=endpoint) as provider:
            start = time.monotonic()
            with pytest.raises(ProviderTimeoutError):
                await provider.check(timeout=0.4)
            assert time.monotonic() - start < 1.5


class Forwarder:
    """A TCP proxy between the provider and the emulator, on a bad network."""

    def __init__(self, emulator: GcpEmulator, delay: float = 0) -> None:
        self._emulator = emulator
        self._delay = delay
        self._epoch = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.endpoint = ""

    def stall(self) -> None:
        """Pass on nothing more on the connections that exist, without closing them."""
        self._epoch += 1

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._forward, "127.0.0.1", 0)
        self.endpoint = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        await asyncio.sleep(self._delay)
        host, _, port = self._emulator.address.rpartition(":")
        theirs, ours = await asyncio.open_connection(host, int(port))
        for source, sink in ((reader, ours), (theirs, writer)):
            self._tasks.add(asyncio.create_task(self._copy(source, sink)))

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        epoch = self._epoch
        with suppress(OSError):
            try:
                while data := await reader.read(65536):
                    if self._epoch != epoch:
                        await asyncio.sleep(600)
                    writer.write(data)
                    await writer.drain()
            finally:
                writer.close()


async def test_a_slow_connection_is_waited_for(emulator: GcpEmulator) -> None:
    # What TCP, TLS and HTTP/2 together may take to another continent.
    async with (
        Forwarder(emulator, delay=0.7) as network,
        opened(emulator, endpoint=network.endpoint) as provider,
    ):
        await provider.check(timeout=3)


async def test_a_connection_that_lost_its_peer_is_replaced(emulator: GcpEmulator) -> None:
    async with Forwarder(emulator) as network, opened(emulator, endpoint=network.endpoint) as provider:
        await provider.check(timeout=3)
        network.stall()
        start = time.monotonic()
        while True:
            try:
                await provider.check(timeout=1)
                break
            except (ProviderTimeoutError, ProviderUnavailableError):
                assert time.monotonic() - start < 40
        assert network.connections == 2


async def test_c128_no_call_starts_after_the_deadline(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    emulator.reset_calls()
    for seconds in (0.0, -1.0):
        for call in (
            provider.sign(key.uri, ES256, b"a.b", timeout=seconds),
            provider.describe(key.uri, timeout=seconds),
            provider.check(timeout=seconds),
        ):
            with pytest.raises(ProviderTimeoutError):
                await call
    assert emulator.calls == {}


async def test_c128_a_cancelled_call_cancels_its_call_to_google(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    emulator.add_fault("delay", operation="AsymmetricSign", seconds=30)
    task = asyncio.ensure_future(provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS))
    await asyncio.sleep(0.2)
    task.cancel("gone")
    with pytest.raises(asyncio.CancelledError):
        await task
    end = time.monotonic() + 3
    while emulator.requests[-1].outcome == "pending" and time.monotonic() < end:  # noqa: ASYNC110 - it is in another thread
        await asyncio.sleep(0.01)
    assert emulator.requests[-1].outcome == "gone"


async def test_closing_ends_the_calls_in_flight_as_an_outage(emulator: GcpEmulator) -> None:
    async with opened(emulator) as provider:
        key = await make(provider)
        emulator.add_fault("hang", operation="AsymmetricSign")
        tasks = [asyncio.ensure_future(provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)) for _ in range(3)]
        await asyncio.sleep(0.2)
        await provider.aclose()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(r) for r in results} == {ProviderUnavailableError}


async def test_after_an_outage_calls_work_again_within_a_second(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    emulator.close()
    end = time.monotonic() + 2
    while time.monotonic() < end:
        with pytest.raises(ProviderUnavailableError):
            await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
        await asyncio.sleep(0.1)
    emulator.listen()
    start = time.monotonic()
    while True:
        try:
            await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
            break
        except ProviderUnavailableError:
            await asyncio.sleep(0.02)
    assert time.monotonic() - start < 1.5


async def test_a_dropped_connection_is_an_outage_and_the_next_call_connects(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    key = await make(provider)
    emulator.add_fault("drop_connection", operation="AsymmetricSign", times=1)
    guard = guarded(provider, emulator)
    with pytest.raises(ProviderUnavailableError):
        await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    await asyncio.sleep(1)
    assert (await guard.sign(key.uri, ES256, b"a.b", timeout=SECONDS)).value


async def test_nothing_blocks_the_loop(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    emulator.add_fault("delay", operation="AsymmetricSign", seconds=0.5)
    call = asyncio.ensure_future(provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS))
    longest = 0.0
    while not call.done():
        start = time.monotonic()
        await asyncio.sleep(0.005)
        longest = max(longest, time.monotonic() - start)
    assert (await call).value
    assert longest < 0.4


async def test_a_key_for_encryption_does_not_sign(provider: GcpProvider, emulator: GcpEmulator) -> None:
    key = await make(provider)
    emulator._version(name_of(key)).algorithm = "GOOGLE_SYMMETRIC_ENCRYPTION"
    with pytest.raises(ProviderKeyDisabledError):
        await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
    with pytest.raises(ProviderUnsupportedError):
        await provider.describe(key.uri, timeout=SECONDS)


async def test_a_check_without_the_permission_to_read_the_ring_succeeds(
    provider: GcpProvider, emulator: GcpEmulator
) -> None:
    emulator.add_fault("error", operation="GetKeyRing", code="PERMISSION_DENIED", times=1)
    await provider.check(timeout=SECONDS)
    emulator.add_fault("error", operation="GetKeyRing", code="UNAUTHENTICATED", times=1)
    with pytest.raises(CredentialsRefusedError):
        await provider.check(timeout=SECONDS)


async def test_a_missing_key_is_missing(provider: GcpProvider, emulator: GcpEmulator) -> None:
    uri = f"{SCHEME}{emulator.ring}/cryptoKeys/none/cryptoKeyVersions/1"
    for call in (
        provider.sign(uri, ES256, b"a.b", timeout=SECONDS),
        provider.describe(uri, timeout=SECONDS),
        provider.disable(uri, timeout=SECONDS),
        provider.schedule_deletion(uri, timeout=SECONDS),
    ):
        with pytest.raises(ProviderKeyMissingError):
            await call


async def test_c114_programs_started_while_calls_are_in_flight_do_not_hang(provider: GcpProvider) -> None:
    key = await make(provider)
    stopping = False

    async def sign() -> int:
        count = 0
        while not stopping:
            await provider.sign(key.uri, ES256, b"a.b", timeout=SECONDS)
            count += 1
        return count

    signers = [asyncio.ensure_future(sign()) for _ in range(4)]
    for _ in range(50):
        await asyncio.to_thread(subprocess.run, [sys.executable, "-S", "-c", ""], check=True, timeout=20)
    stopping = True
    assert all(await asyncio.gather(*signers))


def test_importing_the_factory_does_not_import_the_library() -> None:
    code = (
        "import sys; from sealwright.kms.registry import load_factory; f = load_factory('gcp'); "
        "assert f.kind == 'gcp'; f.settings(project='p-1', location='global', key_ring='r'); "
        "assert not [m for m in sys.modules if m.startswith(('google.cloud', 'google.auth', 'grpc.aio'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)  # noqa: S603 - our own code
