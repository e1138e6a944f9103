from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import pytest

from contract.aws_harness import AwsHarness, credentials
from sealwright_testing.contract import ProviderContract
from sealwright_testing.emulators.aws import ThreadedAwsEmulator


class OnEmulator(ProviderContract):
    transport: Literal["http", "boto3"]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def environment(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with credentials(tmp_path_factory.mktemp("aws")):
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls) -> Iterator[AwsHarness]:
        with ThreadedAwsEmulator() as emulator:
            yield AwsHarness(emulator, cls.transport)


class TestHttp(OnEmulator):
    transport = "http"


class TestBoto3(OnEmulator):
    transport = "boto3"
