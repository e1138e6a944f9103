from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import grpc
import pytest

from contract.gcp_harness import GcpHarness, GcpServerHarness
from sealwright_testing.contract import ProviderContract
from sealwright_testing.emulators.gcp import GcpEmulator

SERVER = os.environ.get("SEALWRIGHT_GCP_ENDPOINT", "")
"""`host:port` of a server in plaintext on loopback, such as Google's fakekms. The contract runs on it too, where it is set."""


@pytest.fixture(autouse=True, scope="module")
def grpc_for_asyncio() -> Iterator[None]:
    """Keep the thread and the sockets that gRPC opens with its first channel, and closes with its last."""

    async def keep() -> None:
        grpc.aio.init_grpc_aio()

    # In a loop of its own: outside one, gRPC would make a loop and leave it open.
    asyncio.run(keep())
    yield
    grpc.aio.shutdown_grpc_aio()


class TestEmulator(ProviderContract):
    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls) -> Iterator[GcpHarness]:
        with GcpEmulator() as emulator:
            yield GcpHarness(emulator)


if SERVER:

    class TestServer(ProviderContract):
        @pytest.fixture(scope="class")
        @classmethod
        def harness(cls) -> GcpServerHarness:
            return GcpServerHarness(SERVER)
