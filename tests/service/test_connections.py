"""What clients of gRPC meet when connections end, when they watch, and when they ask for more than they may."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sealwright.server.http2 import lifetime
from sealwright.v1 import jwks_pb2, signing_pb2
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document
from support.service import Failure, Service, audit_records, failure, running, until

ORDER = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}")
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
async def service(tmp_path: Path, emulator: AwsEmulator) -> AsyncIterator[Service]:
    async with running(document(tmp_path, emulator.endpoint)) as service:
        yield service


async def outcome(call: Any) -> str:
    """Return the code of a call, and its reason if the service gave one."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        refused = Failure(error)
        return f"{refused.code} {refused.reason}".strip()
    return "OK"


async def test_calls_that_never_pause_notice_nothing_of_connections_that_get_old(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifetime, "AGE_SECONDS", 0.2)
    peers: Counter[str] = Counter()
    async with grpc.aio.insecure_channel(service.app.addresses["grpc"], options=OWN_CONNECTION) as channel:
        stub = SigningServiceStub(channel)

        async def ask() -> None:
            for _ in range(60):
                peers[await outcome(stub.SignJwt(ORDER, timeout=10))] += 1

        await asyncio.gather(*(ask() for _ in range(8)))
    assert set(peers) == {"OK"}
    seen = {r["peer"] for r in audit_records(service.document, "sign")}
    assert len(seen) > 1


async def test_a_stop_cancels_no_call_that_was_accepted(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault("delay", operation="Sign", seconds=0.1)
    outcomes: Counter[str] = Counter()
    address, stopping = service.app.addresses["grpc"], asyncio.Event()

    async def ask() -> None:
        async with grpc.aio.insecure_channel(address, options=OWN_CONNECTION) as channel:
            while not stopping.is_set():
                outcomes[await outcome(SigningServiceStub(channel).SignJwt(ORDER, timeout=10))] += 1

    asking = [asyncio.create_task(ask()) for _ in range(20)]

    async def under_load() -> bool:
        return outcomes["OK"] >= 40

    await until(under_load)
    await service.app.stop()
    stopping.set()
    await asyncio.gather(*asking)
    assert set(outcomes) <= {"OK", "UNAVAILABLE SHUTTING_DOWN", "UNAVAILABLE"}
    allowed = [r for r in audit_records(service.document, "sign") if r["outcome"] == "allowed"]
    assert len(allowed) == outcomes["OK"]


async def test_watching_health_tells_changes_and_ends_with_the_service(service: Service) -> None:
    stub: Any = health_pb2_grpc.HealthStub(service.channel)
    seen: list[int] = []

    async def watch() -> str:
        call = stub.Watch(health_pb2.HealthCheckRequest(service="sealwright.v1.SigningService"))
        try:
            while (answer := await call.read()) is not grpc.aio.EOF:
                seen.append(answer.status)
        except grpc.aio.AioRpcError as error:
            return error.code().name
        return "OK"

    watching = asyncio.create_task(watch())

    async def serving() -> bool:
        return SERVING in seen

    await until(serving)
    await asyncio.wait_for(service.app.stop(), 5)
    assert await asyncio.wait_for(watching, 5) == "UNAVAILABLE"
    assert seen[-1] == NOT_SERVING


async def test_a_watcher_does_not_keep_the_service_from_stopping_nor_a_full_listener_from_others(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    config = document(tmp_path, emulator.endpoint)
    config["server"] |= {"max_connections": 16, "max_connections_per_address": 16}
    async with running(config) as service:
        channels = [grpc.aio.insecure_channel(service.app.addresses["grpc"], options=OWN_CONNECTION) for _ in range(24)]
        watching = []
        for channel in channels:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            call = stub.Watch(health_pb2.HealthCheckRequest())
            watching.append(asyncio.ensure_future(call.read()))
        await asyncio.wait(watching, timeout=5)
        assert (await service.sign()).token
        await asyncio.gather(*(channel.close() for channel in channels))
        await asyncio.gather(*watching, return_exceptions=True)


@pytest.mark.parametrize("size", [1, 9_000, 15_000])
async def test_metadata_below_the_limit_is_taken_every_time(service: Service, size: int) -> None:
    for _ in range(10):
        answer = await service.signing.SignJwt(ORDER, metadata=(("x-large", "y" * size),), timeout=5)
        assert answer.token


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_compressed_requests_are_read(service: Service, compression: grpc.Compression) -> None:
    claims = '{"a":"' + "x" * 4000 + '"}'
    order = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json=claims)
    assert (await service.signing.SignJwt(order, compression=compression, timeout=5)).token


@pytest.mark.parametrize(
    "path", ["/sealwright.v1.SigningService/None", "/none/SignJwt", "/", "/grpc.health.v1.Health/"]
)
async def test_a_method_that_does_not_exist_is_unimplemented(service: Service, path: str) -> None:
    method: Any = service.channel.unary_unary(path)
    refused = await failure(method(b"", timeout=5))
    assert (refused.code, refused.reason) == ("UNIMPLEMENTED", "")
    assert (await service.sign()).token


async def test_a_deadline_that_passes_ends_the_call_on_both_sides(service: Service, emulator: AwsEmulator) -> None:
    emulator.add_fault("hang", operation="Sign")
    refused = await failure(service.sign(timeout=0.3))
    assert refused.code == "DEADLINE_EXCEEDED"

    async def recorded() -> bool:
        return any(r["outcome"] in {"cancelled", "failed"} for r in audit_records(service.document, "sign"))

    await until(recorded)
    emulator.clear_faults()
    assert (await service.sign()).token


async def test_large_answers_to_a_client_with_small_windows_arrive_whole(service: Service) -> None:
    options = (("grpc.http2.lookahead_bytes", 1024), ("grpc.http2.bdp_probe", 0), *OWN_CONNECTION)
    one = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json='{"a":"' + "x" * 4000 + '"}')
    async with grpc.aio.insecure_channel(service.app.addresses["grpc"], options=options) as channel:
        batch = signing_pb2.BatchSignJwtRequest(requests=[one] * 128)
        answer = await SigningServiceStub(channel).BatchSignJwt(batch, timeout=60)
    assert all(r.response.token for r in answer.results)


async def test_many_calls_on_one_connection_wait_for_their_turn_at_the_client(service: Service) -> None:
    answers = await asyncio.gather(*(service.sign(timeout=30) for _ in range(300)))
    assert len({a.jwt_id for a in answers}) == 300
    assert (await service.jwks.GetJwks(jwks_pb2.GetJwksRequest(issuer="issuers/payments"))).jwks_json
