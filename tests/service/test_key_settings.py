"""Settings of issuers and series that change what happens to keys."""

from __future__ import annotations

import time
from pathlib import Path

from sealwright.v1 import keys_pb2
from sealwright_testing.emulators.aws import AwsEmulator, KeyState
from support.document import QUICK_TIMING, document, issuer, quick_issuer
from support.service import Service, failure, running, until


async def test_destroy_after_schedules_the_deletion_of_withdrawn_keys_and_of_no_others(
    tmp_path: Path,
    emulator: AwsEmulator,
) -> None:
    quick = quick_issuer(max_lifetime="1s", default_lifetime="1s")
    quick["series"][0]["destroy_after"] = "0s"
    async with running(document(tmp_path, emulator.endpoint, quick, timing=QUICK_TIMING)) as service:
        first = (await service.sign()).kid
        await service.rotate(expected_kid=first)
        await until(lambda: _state(service, first, keys_pb2.Key.STATE_DESTROYED))
        keys = {k.kid: k.key_uri.rpartition("/")[2] for k in await service.list_keys()}
        ending = {i for i, k in emulator.keys.items() if k.state is KeyState.PENDING_DELETION}
        assert ending == {keys[first]}
        assert first not in await service.published()


async def test_an_issuer_that_moves_here_waits_for_its_lead_with_its_first_keys_too(
    tmp_path: Path,
    emulator: AwsEmulator,
) -> None:
    quick = quick_issuer(migrating=True)
    start = time.monotonic()
    async with running(document(tmp_path, emulator.endpoint, quick, timing=QUICK_TIMING)) as service:
        assert time.monotonic() - start < 15, "the start does not wait for a lead"
        assert len(await service.published()) == 2
        assert (await failure(service.sign())).reason == "NO_ACTIVE_KEY"
        assert (await service.get("/readyz"))[0] == 503
        await until(lambda: _signs(service))
        assert time.monotonic() - start >= 3.8


async def test_limits_that_were_raised_stay_raised(tmp_path: Path, emulator: AwsEmulator) -> None:
    async with running(document(tmp_path, emulator.endpoint, issuer(jwks={"max_age": "10m"}))) as service:
        assert "max-age=600" in (await service.get("/payments/.well-known/jwks.json"))[1]["Cache-Control"]
    async with running(document(tmp_path, emulator.endpoint, issuer(jwks={"max_age": "1m"}))) as service:
        assert "max-age=600" in (await service.get("/payments/.well-known/jwks.json"))[1]["Cache-Control"]


async def _state(service: Service, kid: str, state: int) -> bool:
    return any(k.kid == kid and k.state == state for k in await service.list_keys())


async def _signs(service: Service) -> bool:
    try:
        return bool((await service.sign()).token)
    except Exception:  # noqa: BLE001 - not yet
        return False
