"""The whole service on Google Cloud KMS."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from sealwright.jose.algorithms import ALGORITHMS
from sealwright.keys.lifecycle import QUEUE_LENGTH
from sealwright_testing.emulators.gcp import GcpEmulator
from support.document import document, issuer
from support.service import failure, running, until


def configuration(tmp_path: Path, emulator: GcpEmulator, *algorithms: str, **more: Any) -> dict[str, Any]:
    made = issuer("payments", *algorithms)
    for series in made["series"]:
        series.update({"provider": "gcp", **more})
    provider = {
        "kind": "gcp",
        "project": emulator.project,
        "location": emulator.location,
        "key_ring": emulator.key_ring,
        "endpoint": emulator.address,
        "insecure_endpoint": True,
    }
    return document(tmp_path, "", made, providers={"gcp": provider})


async def test_c56_a_token_is_one_call_to_google_and_verifies(tmp_path: Path, emulator: GcpEmulator) -> None:
    async with running(configuration(tmp_path, emulator, "ES256", "PS256")) as service:
        emulator.reset_calls()
        for algorithm in ("ES256", "PS256", "ES256"):
            token = (await service.sign(subject="alice", algorithm=algorithm)).token
            assert (await service.verify(token))["sub"] == "alice"
        assert emulator.calls == {"AsymmetricSign": 3}


async def test_c24_nothing_of_google_is_published(tmp_path: Path, emulator: GcpEmulator) -> None:
    async with running(configuration(tmp_path, emulator)) as service:
        published = json.dumps(await service.published())
        assert not any(word in published for word in ("projects", emulator.project, "cryptoKey", "google"))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("operation", ["CreateCryptoKey", "GetCryptoKeyVersion", "GetPublicKey"])
async def test_c59_a_service_that_dies_while_it_creates_leaves_one_key_for_each_intent(
    tmp_path: Path, emulator: GcpEmulator, operation: str, *, after: bool
) -> None:
    config = configuration(tmp_path, emulator)
    config["providers"]["gcp"]["manage_timeout"] = "1s"  # For so long a lost creation is waited for.
    for _ in range(2):
        emulator.add_fault("hang", operation=operation, after=after)
        async with running(config, wait=False):
            await asyncio.sleep(0.4)
        emulator.clear_faults()
    async with running(config) as service:

        async def complete() -> bool:
            return len(await service.list_keys()) == QUEUE_LENGTH

        await until(complete)
        names = {k.key_uri.removeprefix("gcpkms://") for k in await service.list_keys()}
    assert {v.name for v in emulator.versions} == names


@pytest.mark.parametrize(
    "fault", ["wrong_crc", "other_name", "wrong_signature", "corrupted_signature", "truncated_signature"]
)
async def test_c55_no_damaged_answer_becomes_a_token(tmp_path: Path, emulator: GcpEmulator, fault: str) -> None:
    async with running(configuration(tmp_path, emulator)) as service:
        emulator.add_fault(fault, operation="AsymmetricSign")
        failed = await failure(service.sign())
        assert (failed.code, failed.reason) == ("INTERNAL", "SIGNATURE_REJECTED")
        assert "projects/" not in failed.message
        emulator.clear_faults()
        await service.sign()


async def test_c49_a_disabled_key_fails_its_issuer_with_failed_precondition(
    tmp_path: Path, emulator: GcpEmulator
) -> None:
    async with running(configuration(tmp_path, emulator)) as service:
        for version in emulator.versions:
            emulator.set_state(version.name, "DISABLED")
        failed = await failure(service.sign())
        assert (failed.code, failed.reason) == ("FAILED_PRECONDITION", "PROVIDER_KEY_DISABLED")


async def test_every_algorithm_of_google_that_the_core_has_can_be_a_series(
    tmp_path: Path, emulator: GcpEmulator
) -> None:
    names = [n for n in ("ES256", "ES384", "PS256", "RS256") if n in ALGORITHMS]
    async with running(configuration(tmp_path, emulator, *names, protection="software")) as service:
        for name in names:
            await service.verify((await service.sign(algorithm=name)).token)
    assert {v.protection for v in emulator.versions} == {"SOFTWARE"}
