"""A harness for the `aws` provider on the emulator of AWS KMS."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import botocore.loaders
import pytest

from sealwright.jose.algorithms import Algorithm
from sealwright.provider import KeyProvider, Protection
from sealwright_providers.aws import FACTORY
from sealwright_providers.aws.settings import AwsSettings
from sealwright_testing.contract import RETRY_AFTER, Fault, Harness, KeyState
from sealwright_testing.emulators.aws import AwsEmulator, signing
from sealwright_testing.emulators.aws import KeyState as AwsKeyState

SCHEME = "awskms:///"


@contextmanager
def credentials(nowhere: Path) -> Iterator[None]:
    """Set the credentials of the emulator, and hide others that the SDK could find on this machine."""
    with pytest.MonkeyPatch.context() as patch_:
        for name in ("SESSION_TOKEN", "PROFILE", "DEFAULT_PROFILE", "ENDPOINT_URL", "ENDPOINT_URL_KMS"):
            patch_.delenv(f"AWS_{name}", raising=False)
        patch_.setenv("AWS_ACCESS_KEY_ID", "test")
        patch_.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch_.setenv("AWS_CONFIG_FILE", str(nowhere / "config"))
        patch_.setenv("AWS_SHARED_CREDENTIALS_FILE", str(nowhere / "credentials"))
        patch_.setenv("AWS_EC2_METADATA_DISABLED", "true")
        # The SDK reads megabytes of JSON for each session. Do it once for all these tests.
        loader = botocore.loaders.create_loader()
        patch_.setattr("botocore.session.create_loader", lambda _path: loader)
        yield


def foreign(account: str, region: str) -> tuple[str, ...]:
    """Return key URIs that are outside an account and region, or that are not key URIs."""
    arn = f"arn:aws:kms:{region}:{account}:key/"
    key = str(uuid.uuid4())
    return (
        f"{SCHEME}{arn.replace(region, 'us-east-1')}{key}",
        f"{SCHEME}{arn.replace(account, '999999999999')}{key}",
        f"{SCHEME}{arn.replace(':kms:', ':s3:')}{key}",
        f"{SCHEME}{arn.replace('arn:aws:', 'arn:aws-cn:')}{key}",
        f"{SCHEME}{arn}",
        f"{SCHEME}{arn}{key}/x",
        f"{SCHEME}{arn}{key}?x=y",
        f"{SCHEME}{key}",
        f"awskms://localhost:1/{arn}{key}",
        f"{arn}{key}",
    )


STATES = {
    KeyState.DISABLED: AwsKeyState.DISABLED,
    KeyState.PENDING_DELETION: AwsKeyState.PENDING_DELETION,
    KeyState.NOT_YET_ENABLED: AwsKeyState.CREATING,
}
FAULTS: dict[Fault, list[dict[str, Any]]] = {
    Fault.TRUNCATED_SIGNATURE: [{"kind": "truncated_signature"}],
    Fault.OTHER_KEY: [{"kind": "wrong_signature"}],
    Fault.OTHER_VERSION: [{"kind": "other_key"}],
    Fault.DENIED: [{"kind": "error", "type": "AccessDeniedException", "message": "User: arn:aws:iam::111122223333:u"}],
    Fault.THROTTLED: [{"kind": "throttle"}],
    Fault.THROTTLED_WITH_RETRY_AFTER: [{"kind": "throttle", "retry_after": RETRY_AFTER}],
    Fault.UNAVAILABLE: [{"kind": "http_500", "message": "arn:aws:kms:eu-west-1:111122223333:key/k"}],
    Fault.SLOW: [{"kind": "hang"}],
}


class AwsHarness(Harness):
    protection = Protection.HSM

    def __init__(self, emulator: AwsEmulator, transport: Literal["http", "boto3"]) -> None:
        super().__init__()
        self.name = f"aws ({transport})"
        self._emulator = emulator
        self._transport = transport
        self._arn = f"arn:aws:kms:{emulator.region}:{emulator.account}:key/"
        self.words = (emulator.account, emulator.endpoint, "127.0.0.1", "botocore", emulator.region)
        self.foreign = foreign(emulator.account, emulator.region)

    async def open(self) -> KeyProvider:
        return await FACTORY.open(
            AwsSettings(
                region=self._emulator.region,
                account=self._emulator.account,
                endpoint_url=self._emulator.endpoint,
                transport=self._transport,
            )
        )

    def unknown(self, algorithm: Algorithm) -> str:  # noqa: ARG002 - it is the same for all
        return f"{SCHEME}{self._arn}{uuid.uuid4()}"

    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:  # noqa: ARG002 - the emulator does it
        self._emulator.set_key_state(uri.removeprefix(SCHEME), STATES[state])

    @contextmanager
    def arm(self, fault: Fault) -> Iterator[None]:
        if fault is Fault.CORRUPTED_SIGNATURE:
            with patch.object(signing, "sign", _corrupted):
                yield
            return
        for options in FAULTS[fault]:
            self._emulator.add_fault(**options)
        try:
            yield
        finally:
            self._emulator.clear_faults()

    def calls(self) -> int:
        return sum(self._emulator.calls.values())


_sign = signing.sign


def _corrupted(*args: Any) -> bytes:
    signature = _sign(*args)
    # Flip the last bit. In DER it belongs to s.
    return signature[:-1] + bytes([signature[-1] ^ 1])
