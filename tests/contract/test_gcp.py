from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from contract.gcp_harness import GcpHarness, GcpServerHarness
from sealwright_testing.contract import ProviderContract
from sealwright_testing.emulators.gcp import GcpEmulator

SERVER = os.environ.get("SEALWRIGHT_GCP_ENDPOINT", "")
"""`host:port` of a server in plaintext on loopback, such as Google's fakekms. The contract runs on it too, where it is set."""


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
