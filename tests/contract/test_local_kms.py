"""The provider against local-kms, which others wrote, with the same contract as on our emulator."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from contract.aws_harness import SCHEME, credentials, foreign
from contract.local_kms import ACCOUNT, REGION, LocalKms, missing
from sealwright.jose.algorithms import Algorithm
from sealwright.provider import KeyDeleter, KeyDisabler, KeyProvider, Protection
from sealwright_providers.aws.http_transport import HttpTransport
from sealwright_providers.aws.provider import AwsProvider
from sealwright_providers.aws.settings import AwsSettings
from sealwright_providers.aws.sigv4 import Credentials
from sealwright_providers.http1.connection import Reply
from sealwright_testing.contract import CannotError, Fault, Harness, KeyState, Outcome, ProviderContract
from support.document import tool_missing

NO_SUCH_KEYS = "local-kms 3 has no such keys; its version 4 is to have them"
LONG_SALT = (
    "local-kms salts PSS with the maximum (RFC 7518 §3.5: as long as the hash), so the core refuses the signature"
)
MAC_LISTS = "local-kms lists the algorithms of HMAC keys as SigningAlgorithms (AWS: MacAlgorithms)"
NO_FAULTS = "local-kms has no faults to inject, and no identities to refuse"
IMPOSSIBLE: dict[str | tuple[Outcome, str], str] = {
    **dict.fromkeys(("EdDSA", "Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"), NO_SUCH_KEYS),
    **{(o, a): LONG_SALT for o in (Outcome.SIGN, Outcome.LONG_MESSAGE) for a in ("PS256", "PS384", "PS512")},
    **{(Outcome.DESCRIBE, a): MAC_LISTS for a in ("HS256", "HS384", "HS512")},
    **dict.fromkeys(
        (
            Outcome.CORRUPTED_SIGNATURE,
            Outcome.TRUNCATED_SIGNATURE,
            Outcome.OTHER_KEY,
            Outcome.OTHER_VERSION,
            Outcome.DENIED,
            Outcome.THROTTLED,
            Outcome.THROTTLED_WITH_RETRY_AFTER,
        ),
        NO_FAULTS,
    ),
    Outcome.NOT_YET_ENABLED: "a key of local-kms is enabled from its creation",
}


class CountingTransport(HttpTransport):
    """Counts requests, since local-kms does not."""

    count = 0

    async def _post(self, operation: str, body: bytes, credentials: Credentials, end: float) -> Reply:
        CountingTransport.count += 1
        return await super()._post(operation, body, credentials, end)


class LocalKmsHarness(Harness):
    name = "aws (local-kms)"
    protection = Protection.HSM
    impossible = IMPOSSIBLE
    foreign = foreign(ACCOUNT, REGION)

    def __init__(self, kms: LocalKms) -> None:
        super().__init__()
        self._kms = kms
        self.words = (ACCOUNT, REGION, kms.endpoint, "127.0.0.1", "botocore")

    async def open(self) -> KeyProvider:
        settings = AwsSettings(region=REGION, account=ACCOUNT, endpoint_url=self._kms.endpoint)
        return AwsProvider(settings, await CountingTransport.open(settings))

    def unknown(self, algorithm: Algorithm) -> str:  # noqa: ARG002 - it is the same for all
        return f"{SCHEME}arn:aws:kms:{REGION}:{ACCOUNT}:key/{uuid.uuid4()}"

    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:
        if state is KeyState.DISABLED and isinstance(provider, KeyDisabler):
            await provider.disable(uri, timeout=20)
        elif state is KeyState.PENDING_DELETION and isinstance(provider, KeyDeleter):
            await provider.schedule_deletion(uri, timeout=20)
        else:
            raise CannotError("local-kms has no such state")

    def arm(self, fault: Fault) -> AbstractContextManager[None]:
        match fault:
            case Fault.SLOW:
                return self._kms.paused()
            case Fault.UNAVAILABLE:
                return self._kms.away()
            case _:
                raise CannotError("local-kms has no faults")

    def calls(self) -> int:
        return CountingTransport.count


@pytest.mark.timeout(300)  # the first run builds local-kms
class TestLocalKms(ProviderContract):
    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def environment(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        with credentials(tmp_path_factory.mktemp("aws")):
            yield

    @pytest.fixture(scope="class")
    @classmethod
    def harness(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalKmsHarness]:
        what = missing()
        if what is not None:
            tool_missing(what)
            return
        kms = LocalKms(tmp_path_factory.mktemp("local-kms"))
        try:
            yield LocalKmsHarness(kms)
        finally:
            kms.stop()
