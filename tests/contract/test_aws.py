from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import botocore.loaders
import pytest

from contract.aws_harness import AwsHarness
from sealwright_testing.contract import ProviderContract
from sealwright_testing.emulators.aws import ThreadedAwsEmulator


class OnEmulator(ProviderContract):
    transport: Literal["http", "boto3"]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def environment(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """Sets the credentials of the emulator, and hides others that the SDK could find on this machine."""
        nowhere: Path = tmp_path_factory.mktemp("aws")
        with pytest.MonkeyPatch.context() as patch:
            for name in ("SESSION_TOKEN", "PROFILE", "DEFAULT_PROFILE", "ENDPOINT_URL", "ENDPOINT_URL_KMS"):
                patch.delenv(f"AWS_{name}", raising=False)
            patch.setenv("AWS_ACCESS_KEY_ID", "test")
            patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
            patch.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
            patch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            # The SDK reads megabytes of JSON for each session. Do it once for all these tests.
            loader = botocore.loaders.create_loader()
            patch.setattr("botocore.session.create_loader", lambda _path: loader)
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
