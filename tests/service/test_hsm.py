"""The whole service on a PKCS#11 token, beside a cloud KMS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.pkcs11_faults import Call, FaultyModule, compiler
from sealwright_testing.softhsm import SoftHsm, soft_hsm, softhsm_module
from support.document import document, issuer, tool_missing
from support.service import failure, running, until

ALGORITHMS = ("RS256", "PS384", "ES256", "ES512", "EdDSA", "HS256")


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> FaultyModule:
    module = softhsm_module()
    if module is None or compiler() is None:
        tool_missing("softhsm2 or a C compiler")
    return FaultyModule(tmp_path_factory.mktemp("faults"), module or "")


@pytest.fixture
def hsm(faulty: FaultyModule) -> Iterator[SoftHsm]:
    with soft_hsm(softhsm_module() or "") as token:
        faulty.mend()
        yield token
        faulty.mend()


def with_hsm(
    directory: Path, emulator: AwsEmulator, hsm: SoftHsm, faulty: FaultyModule, *issuers: Any
) -> dict[str, Any]:
    config = document(directory, emulator.endpoint, *issuers)
    config["providers"]["hsm"] = hsm.settings(module=faulty.path, sessions=4)
    return config


def on_hsm(name: str, *algorithms: str) -> dict[str, Any]:
    one = issuer(name, *algorithms, mixed_key_types=True)
    for series in one["series"]:
        series["provider"] = "hsm"
    return one


async def test_an_issuer_on_an_hsm_signs_publishes_and_rotates(
    tmp_path: Path,
    emulator: AwsEmulator,
    hsm: SoftHsm,
    faulty: FaultyModule,
) -> None:
    config = with_hsm(tmp_path, emulator, hsm, faulty, on_hsm("payments", *ALGORITHMS))
    async with running(config) as service:
        before = {}
        for algorithm in ALGORITHMS:
            before[algorithm] = await service.sign('{"scope":"pay"}', algorithm=algorithm)
            if algorithm != "HS256":
                await service.verify(before[algorithm].token)
        published = await service.published()
        assert before["HS256"].kid not in published
        await service.rotate(series="es256")
        after = await service.sign(algorithm="ES256")
        assert after.kid != before["ES256"].kid
        await service.verify(after.token)
        assert all(k.key_uri.startswith("pkcs11:") for k in await service.list_keys())
    async with running(config) as service:
        assert set(await service.published()) >= set(published)
        assert (await service.sign(algorithm="ES256")).kid == after.kid


async def test_an_hsm_that_hangs_fails_fast_and_stops_nobody_else(
    tmp_path: Path,
    emulator: AwsEmulator,
    hsm: SoftHsm,
    faulty: FaultyModule,
) -> None:
    config = with_hsm(tmp_path, emulator, hsm, faulty, on_hsm("payments", "ES256"), issuer("cloud"))
    async with running(config) as service:
        await service.sign()
        faulty.delay(Call.SIGN, 600_000)
        start = time.monotonic()
        stuck = await asyncio.gather(*(failure(service.sign(timeout=1.0)) for _ in range(30)))
        assert time.monotonic() - start < 10
        assert {s.code for s in stuck} <= {"DEADLINE_EXCEEDED", "UNAVAILABLE", "RESOURCE_EXHAUSTED"}
        start = time.monotonic()
        for _ in range(20):
            assert (await service.sign(issuer="cloud")).token
            assert (await service.get("/payments/.well-known/jwks.json"))[0] == 200
        assert time.monotonic() - start < 10
        faulty.mend()

        async def signs() -> bool:
            try:
                return bool((await service.sign(timeout=2)).token)
            except Exception:  # noqa: BLE001 - not yet
                return False

        await until(signs)


async def test_a_wrong_pin_does_not_keep_the_service_from_starting(
    tmp_path: Path,
    emulator: AwsEmulator,
    hsm: SoftHsm,
    faulty: FaultyModule,
) -> None:
    config = with_hsm(tmp_path, emulator, hsm, faulty, on_hsm("payments", "ES256"), issuer("cloud"))
    (tmp_path / "pin").write_text("0000")
    config["providers"]["hsm"]["pin_file"] = str(tmp_path / "pin")
    logins = faulty.count(Call.LOGIN)
    async with running(config) as service:
        assert (await service.sign(issuer="cloud")).token
        for _ in range(5):
            assert (await failure(service.sign())).reason in {"NO_ACTIVE_KEY", "PROVIDER_ACCESS_DENIED"}
        await asyncio.sleep(1.5)
    assert faulty.count(Call.LOGIN) - logins == 1
