"""Keys that are described wrongly, or that the KMS does not see when they are to sign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from faults.creating import CLOUDS, MISSING, SIGN, Cloud, cloud
from sealwright.jose import base64url
from sealwright.keys.lifecycle import QUEUE_LENGTH
from sealwright.keys.trial import ROUNDS, TEXT
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer, series
from support.service import Service, failure, running, until

every_cloud = pytest.mark.parametrize("at", CLOUDS, indirect=True)


@pytest.fixture
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cloud]:
    with cloud(request.param, tmp_path) as one:
        yield one


def reason(service: Service) -> str:
    return service.app.rotator.creation.failing.get("payments", "")


async def full(service: Service) -> bool:
    try:
        return not reason(service) and len(await service.list_keys()) == QUEUE_LENGTH
    except grpc.aio.AioRpcError:
        return False  # The store has not been read yet.


def test_f13_the_text_of_the_trial_cannot_begin_a_jws_signing_input() -> None:
    assert TEXT[:1].decode() not in base64url.encode(bytes(range(256)))
    assert b"." in TEXT, "a signing input has a point, so that the first byte must tell"


@every_cloud
async def test_f13_a_key_that_does_not_sign_for_its_public_key_is_not_published(at: Cloud) -> None:
    at.arm({"kind": "wrong_signature"}, SIGN[at.provider])
    async with running(at.document(), wait=False) as service:

        async def rejected() -> bool:
            return "SIGNATURE_REJECTED" in reason(service)

        await until(rejected)
        assert await service.list_keys() == []
        assert (await service.get("/payments/.well-known/jwks.json"))[0] == 503
        at.emulator.clear_faults()
        await until(lambda: full(service))
        await service.verify((await service.sign()).token)
    assert (at.created, len(at.found())) == (QUEUE_LENGTH, QUEUE_LENGTH)


async def test_f13_a_secret_key_that_gives_two_values_is_not_published(tmp_path: Path) -> None:
    async with AwsEmulator() as emulator:
        emulator.add_fault("wrong_signature", operation="GenerateMac", times=1)
        one = issuer("payments", series=[series("HS256")])
        async with running(document(tmp_path, emulator.endpoint, one), wait=False) as service:

            async def rejected() -> bool:
                return "SIGNATURE_REJECTED" in reason(service)

            await until(rejected)
            await until(lambda: full(service))
            assert (await service.sign()).token
            assert emulator.calls["CreateKey"] == QUEUE_LENGTH


@every_cloud
async def test_f14_a_key_is_published_when_it_has_signed_several_times_in_a_row(at: Cloud) -> None:
    refusals = 5
    at.arm(MISSING[at.provider], SIGN[at.provider], times=refusals)
    async with running(at.document(), wait=False) as service:
        met: list[Any] = []

        async def signed() -> bool:
            try:
                return bool((await service.sign()).token)
            except Exception as error:  # noqa: BLE001 - judged below
                met.append(error)
                return False

        await until(signed)
        assert {e.details() for e in met} <= {"the store has not been read yet", "no key of the issuer may sign now"}
        assert at.calls(SIGN[at.provider]) >= refusals + ROUNDS
    assert at.created == QUEUE_LENGTH


@pytest.mark.parametrize(("at", "state"), [*((c, "missing") for c in CLOUDS), ("aws", "invalid")], indirect=["at"])
async def test_f14_a_key_that_has_signed_before_is_asked_again_and_then_unavailable(at: Cloud, state: str) -> None:
    fault = MISSING[at.provider] if state == "missing" else {"kind": "error", "type": "KMSInvalidStateException"}
    async with running(at.document()) as service:
        await service.sign()
        at.arm(fault, SIGN[at.provider], times=2)
        assert (await service.sign()).token
        at.arm(fault, SIGN[at.provider])
        refused = await failure(service.sign())
        assert (refused.code, refused.reason) == ("UNAVAILABLE", "PROVIDER_UNAVAILABLE")
        assert refused.retry_after is not None
        assert refused.metadata == {"provider": at.provider}

        async def told() -> bool:
            status, _, body = await service.get("/readyz")
            return status == 503 and b"PROVIDER_KEY" in body

        await until(told)
        at.emulator.clear_faults()
        assert (await service.sign()).token
