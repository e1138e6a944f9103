from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from contract.azure_harness import AzureHarness, ServerHarness
from sealwright_testing.contract import ProviderContract
from sealwright_testing.emulators.azure import ThreadedAzureEmulator


class OnEmulator(ProviderContract):
    managed_hsm: bool

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzureHarness]:
        secret = tmp_path_factory.mktemp("azure") / "secret"
        secret.write_text("test\n")
        with ThreadedAzureEmulator(managed_hsm=cls.managed_hsm) as emulator:
            yield AzureHarness(emulator, secret)


class TestVault(OnEmulator):
    managed_hsm = False


class TestManagedHsm(OnEmulator):
    managed_hsm = True


if "SEALWRIGHT_AZURE_VAULT" in os.environ:

    class TestServer(ProviderContract):
        """A server that others wrote; docs/providers/azure.md tells how to start Lowkey Vault."""

        @pytest.fixture(scope="class")
        @classmethod
        def harness(cls) -> ServerHarness:
            return ServerHarness(os.environ)
