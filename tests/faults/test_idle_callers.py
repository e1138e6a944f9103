"""Kind A: a caller that is idle for long, and pings as frameworks in Go do by default, stays connected."""

from __future__ import annotations

import asyncio
from pathlib import Path

import grpc

from sealwright.v1 import signing_pb2, signing_pb2_grpc
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document
from support.service import running

IDLE_SECONDS = 42
"""gRPC forgives two pings that come too early, so the fourth one tells. Its clock cannot be driven."""
OPTIONS = [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]


async def test_f05_an_idle_caller_that_pings_stays_connected(tmp_path: Path) -> None:
    async with AwsEmulator() as emulator, running(document(tmp_path, emulator.endpoint)) as service:
        address = service.app.addresses["grpc"]
        async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
            stub = signing_pb2_grpc.SigningServiceStub(channel)
            request = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}")
            await stub.SignJwt(request, timeout=10)
            try:
                await asyncio.wait_for(channel.wait_for_state_change(grpc.ChannelConnectivity.READY), IDLE_SECONDS)
            except TimeoutError:
                pass
            else:
                raise AssertionError(f"the connection is {channel.get_state()}")
            assert (await stub.SignJwt(request, timeout=10)).token
