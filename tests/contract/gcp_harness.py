"""Google Cloud KMS: the emulator, or any server without credentials on loopback, such as Google's fakekms."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from google.cloud.kms_v1.types import resources, service

from sealwright.errors import ProviderUnsupportedError
from sealwright.jose.algorithms import ALGORITHMS, Algorithm
from sealwright.provider import KeyDeleter, KeyDescription, KeyDisabler, KeyProvider, KeySpec, Protection
from sealwright_providers.gcp import FACTORY
from sealwright_providers.gcp.channel import KmsChannel
from sealwright_providers.gcp.provider import GcpProvider
from sealwright_providers.gcp.settings import GcpSettings
from sealwright_testing.contract import RETRY_AFTER, CannotError, Fault, Harness, KeyState, Outcome
from sealwright_testing.contract.harness import DEPLOYMENT, INTENT
from sealwright_testing.emulators.gcp import GcpEmulator

SCHEME = "gcpkms://"
_S: Any = service
PATIENCE = 60
PROJECT, LOCATION = "sealwright-test", "europe-west1"
IMPOSSIBLE: dict[str | tuple[Outcome, str], str] = {
    "RS384": "Cloud KMS has no RSA keys with SHA-384",
    "PS384": "Cloud KMS has no RSA keys with SHA-384",
    "ES512": "Cloud KMS has no P-521",
}
STATES = {
    KeyState.DISABLED: "DISABLED",
    KeyState.PENDING_DELETION: "DESTROY_SCHEDULED",
    KeyState.NOT_YET_ENABLED: "PENDING_GENERATION",
}
FAULTS: dict[Fault, list[dict[str, Any]]] = {
    Fault.CORRUPTED_SIGNATURE: [{"kind": "corrupted_signature"}],
    Fault.TRUNCATED_SIGNATURE: [{"kind": "truncated_signature"}],
    Fault.OTHER_KEY: [{"kind": "wrong_signature"}],
    Fault.OTHER_VERSION: [{"kind": "other_key"}],
    Fault.DENIED: [{"kind": "error", "code": "PERMISSION_DENIED", "message": f"denied on projects/{PROJECT}"}],
    Fault.THROTTLED: [{"kind": "throttle", "message": f"Quota exceeded for projects/{PROJECT}"}],
    Fault.THROTTLED_WITH_RETRY_AFTER: [{"kind": "throttle", "retry_after": RETRY_AFTER}],
    Fault.UNAVAILABLE: [{"kind": "unavailable", "message": f"projects/{PROJECT} is unavailable"}],
    Fault.SLOW: [{"kind": "hang"}],
}
NO_FAULTS = "the server does not fail on demand"
NO_LABELS = "the server does not take labels"
WITHOUT_FAULTS: dict[str | tuple[Outcome, str], str] = {
    Outcome.CORRUPTED_SIGNATURE: NO_FAULTS,
    Outcome.TRUNCATED_SIGNATURE: NO_FAULTS,
    Outcome.OTHER_KEY: NO_FAULTS,
    Outcome.OTHER_VERSION: NO_FAULTS,
    Outcome.DENIED: NO_FAULTS,
    Outcome.THROTTLED: NO_FAULTS,
    Outcome.THROTTLED_WITH_RETRY_AFTER: NO_FAULTS,
    Outcome.UNAVAILABLE: NO_FAULTS,
    Outcome.SLOW: NO_FAULTS,
    Outcome.CHECK: NO_FAULTS,
    Outcome.CANCEL: NO_FAULTS,
    Outcome.NOT_YET_ENABLED: "nothing holds up the generation of a key",
}
WITHOUT_LABELS: dict[str | tuple[Outcome, str], str] = {
    Outcome.CREATE: NO_LABELS,
    Outcome.PROTECTION: NO_LABELS,
    Outcome.FIND: NO_LABELS,
    Outcome.DELETE: NO_LABELS,
}


class GcpHarness(Harness):
    """On the emulator."""

    name = "gcp"
    protection = Protection.HSM
    impossible = IMPOSSIBLE

    def __init__(self, emulator: GcpEmulator) -> None:
        super().__init__()
        self._emulator = emulator
        self._begin(emulator.address, emulator.key_ring)

    def _begin(self, address: str, key_ring: str) -> None:
        self.settings = GcpSettings(
            project=PROJECT, location=LOCATION, key_ring=key_ring, endpoint=address, insecure_endpoint=True
        )
        self.keys = f"{SCHEME}projects/{PROJECT}/locations/{LOCATION}/keyRings/{key_ring}/cryptoKeys/"
        key = f"{self.keys}k/cryptoKeyVersions/1"
        self.words = (PROJECT, LOCATION, address, "127.0.0.1", "grpc", "google.", "Rpc", "cryptoKeys")
        self.foreign = (
            key.replace(PROJECT, "another-project"),
            key.replace(LOCATION, "us-east1"),
            key.replace(f"keyRings/{key_ring}", "keyRings/another"),
            key.replace("/k/", "/k/../"),
            key.replace("/k/", "/k%2F/"),
            key.replace(SCHEME, ""),
            key.replace(SCHEME, "gcp-kms://"),
            f"{key}/x",
            f"{key}?x=y",
            f"{key}\n",
            f"{self.keys}k/cryptoKeyVersions/",
            f"{self.keys}k/cryptoKeyVersions/0",
            f"{self.keys}k/cryptoKeyVersions/latest",
        )

    async def open(self) -> KeyProvider:
        return await FACTORY.open(self.settings)

    async def make_key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        return await self.made(provider, algorithm, {DEPLOYMENT: "contract", INTENT: str(uuid.uuid4())})

    async def made(self, provider: KeyProvider, algorithm: Algorithm, tags: dict[str, str]) -> str:
        spec = KeySpec(algorithm=algorithm, rsa_bits=4096 if algorithm.name.endswith("S512") else 2048, tags=tags)
        create: Any = provider
        return str((await create.create(spec, timeout=PATIENCE)).uri)

    def unknown(self, algorithm: Algorithm) -> str:  # noqa: ARG002 - it is the same for all
        return f"{self.keys}{uuid.uuid4()}/cryptoKeyVersions/1"

    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:  # noqa: ARG002 - the emulator does it
        name = uri.removeprefix(SCHEME)
        if state is KeyState.NOT_YET_ENABLED:
            # In that state a version is not generated: the emulator has the violation of Google only then.
            self._emulator._version(name).generate_time = float("inf")
        else:
            self._emulator.set_state(name, STATES[state])

    @contextmanager
    def arm(self, fault: Fault) -> Iterator[None]:
        for options in FAULTS[fault]:
            self._emulator.add_fault(**options)
        try:
            yield
        finally:
            self._emulator.clear_faults()

    def calls(self) -> int:
        return sum(self._emulator.calls.values())


class WithoutLabels(GcpProvider):
    """For fakekms, which ends with a panic where a request has labels."""

    async def create(self, spec: KeySpec, *, timeout: float) -> KeyDescription:
        if spec.tags:
            raise CannotError(NO_LABELS)
        return await super().create(spec, timeout=timeout)


class GcpServerHarness(GcpHarness):
    """On any server. Finds out which algorithms it has, and whether it takes labels."""

    name = "gcp (server)"

    def __init__(self, address: str) -> None:
        Harness.__init__(self)
        self._begin(address, f"contract-{uuid.uuid4().hex[:12]}")
        self._labels = True
        lacking = asyncio.run(self._probe())
        more = {} if self._labels else WITHOUT_LABELS
        self.impossible = {**IMPOSSIBLE, **WITHOUT_FAULTS, **more, **lacking}

    async def open(self) -> KeyProvider:
        if self._labels:
            return await super().open()
        return WithoutLabels(self.settings, KmsChannel(self.settings.endpoint, None, None))

    async def _probe(self) -> dict[str | tuple[Outcome, str], str]:
        self._labels = await _prepared(self.settings)
        provider = await self.open()
        lacking: dict[str | tuple[Outcome, str], str] = {}
        try:
            for algorithm in ALGORITHMS.values():
                try:
                    uri = await self.key(provider, algorithm)
                except ProviderUnsupportedError:
                    lacking[algorithm.name] = IMPOSSIBLE.get(algorithm.name, "the server does not have this algorithm")
                    continue
                try:
                    await provider.sign(uri, algorithm, b"a.b", timeout=PATIENCE)
                except ProviderUnsupportedError:
                    for outcome in (Outcome.SIGN, Outcome.LONG_MESSAGE):
                        lacking[outcome, algorithm.name] = "the server takes no checksums with this algorithm"
        finally:
            await provider.aclose()
        return lacking

    async def make_key(self, provider: KeyProvider, algorithm: Algorithm) -> str:
        tags = {DEPLOYMENT: "contract", INTENT: str(uuid.uuid4())} if self._labels else {}
        return await self.made(provider, algorithm, tags)

    async def put(self, provider: KeyProvider, uri: str, state: KeyState) -> None:
        if state is KeyState.DISABLED and isinstance(provider, KeyDisabler):
            await provider.disable(uri, timeout=PATIENCE)
        elif state is KeyState.PENDING_DELETION and isinstance(provider, KeyDeleter):
            await provider.schedule_deletion(uri, timeout=PATIENCE)
        else:
            raise CannotError("no call puts a key into that state")

    @contextmanager
    def arm(self, fault: Fault) -> Iterator[None]:
        raise CannotError(f"the server has no fault {fault}")
        yield

    def calls(self) -> int:
        return 0


async def _prepared(settings: GcpSettings) -> bool:
    """Create the key ring. Return whether the server has more than fakekms: pages, and therefore labels too."""
    parent = f"projects/{settings.project}/locations/{settings.location}"
    ring = f"{parent}/keyRings/{settings.key_ring}"
    channel = KmsChannel(settings.endpoint, None, None)
    try:
        create = _S.CreateKeyRingRequest.pb()(parent=parent, key_ring_id=settings.key_ring)
        await channel.call("CreateKeyRing", create, resources.KeyRing.pb(), "parent", parent, timeout=PATIENCE)
        pages = _S.ListCryptoKeysRequest.pb()(parent=ring, page_size=1)
        try:
            answer = _S.ListCryptoKeysResponse.pb()
            await channel.call("ListCryptoKeys", pages, answer, "parent", ring, timeout=PATIENCE)
        except ProviderUnsupportedError:
            return False
        return True
    finally:
        await channel.aclose()
