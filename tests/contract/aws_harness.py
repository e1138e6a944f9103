"""A harness for the `aws` provider on the emulator of AWS KMS."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal
from unittest.mock import patch

from sealwright.jose.algorithms import Algorithm
from sealwright.provider import KeyProvider, Protection
from sealwright_providers.aws import FACTORY
from sealwright_providers.aws.settings import AwsSettings
from sealwright_testing.contract import RETRY_AFTER, Fault, Harness, KeyState
from sealwright_testing.emulators.aws import AwsEmulator, signing
from sealwright_testing.emulators.aws import KeyState as AwsKeyState

SCHEME = "awskms:///"
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
        arn = f"arn:aws:kms:{emulator.region}:{emulator.account}:key/"
        key = str(uuid.uuid4())
        self._arn = arn
        self.words = (emulator.account, emulator.endpoint, "127.0.0.1", "botocore", "Exception", emulator.region)
        self.foreign = (
            f"{SCHEME}{arn.replace(emulator.region, 'us-east-1')}{key}",
            f"{SCHEME}{arn.replace(emulator.account, '999999999999')}{key}",
            f"{SCHEME}{arn.replace(':kms:', ':s3:')}{key}",
            f"{SCHEME}{arn.replace('arn:aws:', 'arn:aws-cn:')}{key}",
            f"{SCHEME}{arn}",
            f"{SCHEME}{arn}{key}/x",
            f"{SCHEME}{arn}{key}?x=y",
            f"{SCHEME}{key}",
            f"awskms://localhost:1/{arn}{key}",
            f"{arn}{key}",
        )

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
