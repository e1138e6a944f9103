"""gRPC's own edges: deadlines, cancellation, large and hostile requests, overload."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sealwright.v1 import signing_pb2, signing_pb2_grpc
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer
from support.service import Failure, Service, audit_records, failure, running, until

Sign = signing_pb2.SignJwtRequest


def footprint() -> tuple[int, int, int]:
    """What a leak would show in: threads, open files, tasks."""
    return threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), len(asyncio.all_tasks())


async def settled(before: tuple[int, int, int]) -> None:
    """Wait until the footprint is what it was, give or take what pools keep."""
    end = time.monotonic() + 10
    while any(now > then + 8 for now, then in zip(footprint(), before, strict=True)):
        assert time.monotonic() < end, (footprint(), before)
        await asyncio.sleep(0.1)


async def test_c128_a_deadline_that_has_passed_starts_no_kms_call(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="Sign", seconds=1.5)
    emulator.reset_calls()
    answers = await asyncio.gather(*(failure(service.sign(timeout=0.2)) for _ in range(10)))
    assert {a.code for a in answers} == {"DEADLINE_EXCEEDED"}
    begun = emulator.calls["Sign"]
    assert begun <= 10
    await asyncio.sleep(0.5)
    assert emulator.calls["Sign"] == begun
    emulator.clear_faults()
    start = time.monotonic()
    await service.sign()
    assert time.monotonic() - start < 1.4


async def test_c128_a_cancelled_call_cancels_its_kms_call(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault("hang", operation="Sign")
    before = footprint()
    calls = [service.signing.SignJwt(Sign(issuer="issuers/payments"), timeout=30) for _ in range(20)]
    await asyncio.sleep(0.3)
    for call in calls:
        call.cancel()
    for call in calls:
        with contextlib.suppress(asyncio.CancelledError):
            await call
    await settled(before)
    emulator.clear_faults()
    assert (await service.sign()).token


async def test_f04_batches_of_a_caller_beyond_what_can_be_signed_in_time_are_refused(
    service: Service, emulator: AwsEmulator
) -> None:
    emulator.add_fault("hang", operation="Sign")
    emulator.reset_calls()
    batch = signing_pb2.BatchSignJwtRequest(requests=[Sign(issuer="issuers/payments")] * 256)
    calls = [service.signing.BatchSignJwt(batch, timeout=60) for _ in range(33)]
    done, _ = await asyncio.wait([asyncio.ensure_future(failure(c)) for c in calls], return_when="FIRST_COMPLETED")
    (refused,) = [d.result() for d in done]
    assert (refused.code, refused.reason, refused.retry_after) == ("RESOURCE_EXHAUSTED", "OVERLOADED", 1)
    assert emulator.calls["Sign"] <= 128
    (record,) = [r for r in audit_records(service.document) if "method" in r]
    assert (record["event"], record["outcome"], record["reason"]) == ("batch_sign", "failed", "OVERLOADED")
    for call in calls:
        call.cancel()
    emulator.clear_faults()
    await until(lambda: _signs(service))


async def _signs(service: Service) -> bool:
    try:
        return bool((await service.sign()).token)
    except grpc.aio.AioRpcError:
        return False


async def test_c131_a_bug_in_the_service_says_nothing_but_a_request_id(
    service: Service,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("arn:aws:kms:eu-west-1:111122223333:key/secret")

    monkeypatch.setattr(service.app.keyring, "at", broken)
    refused = await failure(service.sign())
    assert (refused.code, refused.reason) == ("INTERNAL", "INTERNAL_ERROR")
    assert refused.request_id
    assert refused.request_id in refused.message
    assert refused.request_id in caplog.text
    for secret in (b"arn:", b"111122223333", b"RuntimeError", b"Traceback"):
        assert secret not in refused.raw + refused.message.encode()


async def test_c132_a_token_of_the_largest_size_passes_as_metadata(service: Service) -> None:
    empty = len((await service.sign('{"x":""}')).token)
    token = (await service.sign(json.dumps({"x": "y" * ((7168 - empty) * 3 // 4 - 3)}))).token
    assert 7160 < len(token) <= 7168
    stub: Any = health_pb2_grpc.HealthStub(service.channel)
    answer = await stub.Check(
        health_pb2.HealthCheckRequest(), metadata=(("authorization", f"Bearer {token}"),), timeout=5
    )
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("size", [17_000, 70_000, 1_000_000])
async def test_f52_metadata_over_the_hard_limit_is_an_error_of_its_own_call_alone(service: Service, size: int) -> None:
    refused = await failure(_with_metadata(service, size))
    assert refused.code == "RESOURCE_EXHAUSTED"
    assert (await service.sign()).token


async def test_f52_metadata_between_the_limits_is_signed_or_refused_and_the_next_call_works(service: Service) -> None:
    # Between its soft limit of 8 KiB and its hard limit of 16 KiB, gRPC refuses some of the calls, chosen at random.
    for _ in range(10):
        try:
            assert (await _with_metadata(service, 9_000)).token
        except grpc.aio.AioRpcError as error:
            assert Failure(error).code == "RESOURCE_EXHAUSTED"  # noqa: PT017 - some calls succeed
        assert (await service.sign()).token


def _with_metadata(service: Service, size: int) -> Any:
    request = Sign(issuer="issuers/payments")
    return service.signing.SignJwt(request, metadata=(("x-large", "y" * size),), timeout=5)


async def test_c134_an_overloaded_kms_leaves_health_and_jwk_sets_alone(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint)
    config["providers"]["aws"] |= {"max_in_flight": 4, "max_queue": 8}
    async with running(config) as service:
        emulator.add_fault("delay", operation="Sign", seconds=3.0)
        calls = [asyncio.create_task(_outcome(service)) for _ in range(100)]
        await asyncio.sleep(0.3)
        stub: Any = health_pb2_grpc.HealthStub(service.channel)
        start = time.monotonic()
        assert (await stub.Check(health_pb2.HealthCheckRequest(), timeout=5)).status == 1
        assert (await service.get("/payments/.well-known/jwks.json"))[0] == 200
        assert time.monotonic() - start < 2.5
        outcomes = await asyncio.wait_for(asyncio.gather(*calls), 30)
        refused = [o for o in outcomes if o is not None and o.reason == "OVERLOADED"]
        assert len(refused) >= 80
        assert all(o.code == "RESOURCE_EXHAUSTED" and o.retry_after is not None for o in refused)


async def test_100_clients_that_cancel_time_out_flood_and_ping_leave_the_server_as_it_was(
    service: Service,
    emulator: AwsEmulator,
) -> None:
    await service.sign()
    before = footprint()
    emulator.add_fault("delay", operation="Sign", seconds=0.2)
    address = service.app.addresses["grpc"]
    await asyncio.gather(*(_misbehave(address, n) for n in range(100)))
    emulator.clear_faults()
    await settled(before)
    signed = await asyncio.gather(*(service.sign() for _ in range(20)))
    assert len({s.jwt_id for s in signed}) == 20
    assert (await service.get("/readyz"))[0] == 200


async def _misbehave(address: str, n: int) -> None:
    options = [
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub = signing_pb2_grpc.SigningServiceStub(channel)
        match n % 4:
            case 0:
                call = stub.SignJwt(Sign(issuer="issuers/payments"), timeout=5)
                await asyncio.sleep(0.05)
                call.cancel()
                with contextlib.suppress(asyncio.CancelledError, grpc.aio.AioRpcError):
                    await call
            case 1:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    await stub.SignJwt(Sign(issuer="issuers/payments"), timeout=0.02)
            case 2:
                refused = await failure(
                    stub.SignJwt(Sign(issuer="issuers/payments", claims_json="x" * 4_000_000), timeout=10)
                )
                assert refused.code == "RESOURCE_EXHAUSTED"
            case _:
                for _ in range(3):
                    with contextlib.suppress(grpc.aio.AioRpcError):
                        await stub.SignJwt(Sign(issuer="issuers/none"), timeout=5)
                    await asyncio.sleep(0.02)


async def _outcome(service: Service) -> Failure | None:
    """Sign, and return how it failed, if it did."""
    try:
        await service.sign(timeout=4)
    except grpc.aio.AioRpcError as error:
        return Failure(error)
    return None


async def test_c114_programs_started_under_load_do_not_hang(service: Service) -> None:
    async def start(_: int) -> int:
        process = await asyncio.create_subprocess_exec("true")
        return await asyncio.wait_for(process.wait(), 10)

    load = [asyncio.create_task(service.sign()) for _ in range(100)]
    assert await asyncio.gather(*(start(n) for n in range(50))) == [0] * 50
    assert all(s.token for s in await asyncio.gather(*load))


async def test_health_is_per_service_and_unknown_services_are_not_found(tmp_path: Path, emulator: AwsEmulator) -> None:
    emulator.add_fault("throttle", operation="CreateKey")  # unlike a failure, a refusal leaves no doubt about a key
    async with running(document(tmp_path, emulator.endpoint, issuer()), wait=False) as service:
        stub: Any = health_pb2_grpc.HealthStub(service.channel)

        async def status(name: str) -> int:
            return int((await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status)

        serving, not_serving = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
        assert await status("") == await status("sealwright.v1.SigningService") == not_serving
        assert await status("sealwright.v1.JwksService") == await status("sealwright.v1.KeyService") == serving
        emulator.clear_faults()

        async def is_serving() -> bool:
            return await status("") == serving

        await until(is_serving)
        assert await status("sealwright.v1.SigningService") == serving
        assert (await failure(stub.Check(health_pb2.HealthCheckRequest(service="none"), timeout=5))).code == "NOT_FOUND"
