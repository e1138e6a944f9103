"""I12: the next series signs when a provider fails, is throttled or is too slow, and never with keys that are protected less."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright.config import parse
from sealwright.config.advice import warnings
from sealwright.v1.keys_pb2 import Key, RevokeKeysRequest
from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.emulators.gcp import GcpEmulator
from support.document import document, issuer, series
from support.four_providers import aws_settings, gcp_settings
from support.service import Service, audit_records, failure, running, until

HSM = series(name="hsm", provider="aws")
SOFT = series(name="soft", provider="gcp", protection="software")
SPARE = series(name="spare", provider="spare")


def on(directory: Path, aws: AwsEmulator, gcp: GcpEmulator, *made: dict[str, Any], **more: Any) -> dict[str, Any]:
    providers = {"aws": aws_settings(aws), "gcp": gcp_settings(gcp)}
    return document(directory, "", issuer(series=list(made)), **{"providers": providers, **more})


def spared(directory: Path, aws: AwsEmulator, spare: AwsEmulator) -> dict[str, Any]:
    providers = {"aws": aws_settings(aws), "spare": aws_settings(spare)}
    return document(directory, "", issuer(series=[HSM, SPARE]), providers=providers)


async def series_of(service: Service, kid: str) -> str:
    return str(next(k.series for k in await service.list_keys() if k.kid == kid))


async def signer(service: Service, **more: Any) -> str:
    return await series_of(service, (await service.sign(**more)).kid)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"kind": "hang"}, "PROVIDER_TIMEOUT"),
        ({"kind": "throttle"}, "PROVIDER_THROTTLED"),
        ({"kind": "http_500"}, "PROVIDER_UNAVAILABLE"),
        ({"kind": "error", "type": "DisabledException"}, "PROVIDER_KEY_DISABLED"),
    ],
    ids=["slow", "throttled", "down", "disabled"],
)
async def test_i12_a_caller_in_a_hurry_gets_a_token_of_the_next_series(
    tmp_path: Path, emulator: AwsEmulator, spare: AwsEmulator, fault: dict[str, Any], reason: str
) -> None:
    config = spared(tmp_path, emulator, spare)
    async with running(config) as service:
        assert await signer(service, timeout=1) == "hsm"
        emulator.add_fault(operation="Sign", **fault)
        for _ in range(3):
            assert await signer(service, timeout=1) == "spare"
        many = await asyncio.gather(*(service.sign(timeout=2) for _ in range(20)))
        assert {await series_of(service, m.kid) for m in many} == {"spare"}
        emulator.clear_faults()
        await until(lambda: _is(service, "hsm"))
    first, *others = audit_records(config, "sign")
    assert "passed_over" not in first
    told = [r["passed_over"] for r in others if "passed_over" in r]
    assert len(told) >= 23
    assert ["hsm: " + reason] in told
    assert {t[0].partition(": ")[0] for t in told} == {"hsm"}
    assert {r["provider"] for r in others if "passed_over" in r} == {"spare"}


async def _is(service: Service, name: str) -> bool:
    return await signer(service) == name


async def test_i12_when_all_fail_the_record_says_why_each_did(
    tmp_path: Path, emulator: AwsEmulator, spare: AwsEmulator
) -> None:
    config = spared(tmp_path, emulator, spare)
    async with running(config) as service:
        emulator.add_fault("hang", operation="Sign")
        spare.add_fault("throttle", operation="Sign")
        assert (await failure(service.sign(timeout=1))).reason == "PROVIDER_TIMEOUT"
    (record,) = audit_records(config, "sign")
    assert record["outcome"] == "failed"
    assert record["passed_over"] == ["hsm: PROVIDER_TIMEOUT", "spare: PROVIDER_THROTTLED"]


async def test_i12_keys_in_software_never_stand_in_for_keys_in_an_hsm(
    tmp_path: Path, emulator: AwsEmulator, gcp: GcpEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    config = on(tmp_path, emulator, gcp, HSM, SOFT)
    assert any("series[1].protection: its keys do not replace those of series hsm" in w for w in warned(config))
    async with running(config) as service:
        keys = await service.list_keys()
        assert {(k.series, k.protection) for k in keys} == {("hsm", "hsm"), ("soft", "software")}
        said = "series soft are kept in software, and do not replace keys that are kept in hsm"
        await until(lambda: said in caplog.text)
        emulator.add_fault("http_500", operation="Sign")
        assert (await failure(service.sign())).reason == "PROVIDER_UNAVAILABLE"
        await until(lambda: _not_ready(service))
        emulator.clear_faults()
        await until(lambda: _signs(service))
    record = next(r for r in audit_records(config, "sign") if r["outcome"] == "failed")
    assert record["passed_over"] == ["hsm: PROVIDER_UNAVAILABLE", "soft: LOWER_PROTECTION"]


def warned(config: dict[str, Any]) -> list[str]:
    with_level = {**config, "issuers": [{**config["issuers"][0]}]}
    first, *others = with_level["issuers"][0]["series"]
    with_level["issuers"][0]["series"] = [{**first, "protection": "hsm"}, *others]
    return list(warnings(parse(with_level)))


async def _not_ready(service: Service) -> bool:
    return (await service.get("/readyz"))[0] == 503


async def _signs(service: Service) -> bool:
    with contextlib.suppress(grpc.aio.AioRpcError):
        return bool((await service.sign()).token)
    return False


async def test_i12_keys_in_an_hsm_stand_in_for_keys_in_software(
    tmp_path: Path, emulator: AwsEmulator, gcp: GcpEmulator
) -> None:
    async with running(on(tmp_path, emulator, gcp, SOFT, HSM)) as service:
        assert await signer(service) == "soft"
        gcp.add_fault("unavailable", operation="AsymmetricSign")
        assert await signer(service) == "hsm"


async def test_i12_a_young_standby_in_the_hsm_signs_before_keys_in_software_do(
    tmp_path: Path, emulator: AwsEmulator, gcp: GcpEmulator
) -> None:
    async with running(on(tmp_path, emulator, gcp, HSM, SOFT)) as service:
        await service.revoke((await service.sign()).kid)  # its standby was ready with the first set
        await until(lambda: _queued(service, "hsm"))
        done = await service.revoke((await service.sign()).kid)
        assert any("a young standby signs at once" in w for w in done.warnings)
        assert await signer(service) == "hsm"


async def _queued(service: Service, name: str) -> bool:
    keys = await service.list_keys()
    return len([k for k in keys if k.series == name and k.state in {Key.STATE_ACTIVE, Key.STATE_STANDBY}]) == 2


async def test_i12_without_any_key_in_the_hsm_an_operator_decides(
    tmp_path: Path, emulator: AwsEmulator, gcp: GcpEmulator
) -> None:
    config = on(tmp_path, emulator, gcp, HSM, SOFT)
    async with running(config) as service:
        done = await service.keys.RevokeKeys(RevokeKeysRequest(provider="aws", reason="stolen"))
        assert any("a lower protection level do not replace it" in w for w in done.warnings)
        assert (await failure(service.sign())).reason == "NO_ACTIVE_KEY"
        assert b"ES256" in (await service.get("/readyz"))[2]
    async with running(on(tmp_path, emulator, gcp, SOFT)) as service:
        assert await signer(service) == "soft", "the configuration says so"


async def test_i12_a_new_series_in_an_hsm_changes_nothing_before_its_first_key_is_ready(
    tmp_path: Path, emulator: AwsEmulator, gcp: GcpEmulator
) -> None:
    async with running(on(tmp_path, emulator, gcp, SOFT)) as service:
        assert await signer(service) == "soft"
    config = on(tmp_path, emulator, gcp, HSM, SOFT)
    async with running(config) as service:
        await until(lambda: _queued(service, "hsm"))
        assert await signer(service) == "soft"
        assert audit_records(config, "sign")[-1]["passed_over"] == ["hsm: NO_ACTIVE_KEY"]
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as store:
            day = round(86400e6)
            store.execute(
                "UPDATE keys SET publish_time = publish_time - ?, ready_time = ready_time - ? WHERE series = 'hsm'",
                (day, day),
            )
            store.execute("UPDATE issuers SET revision = revision + 1")
            store.execute("UPDATE deployment SET revision = revision + 1")
            store.commit()
        await until(lambda: _is(service, "hsm"))
        emulator.add_fault("http_500", operation="Sign")
        assert (await failure(service.sign())).reason == "PROVIDER_UNAVAILABLE"
