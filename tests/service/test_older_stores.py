"""I12: keys of a store from before their protection was noted: never a fall-back to a lower level, and the KMS is asked once."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.emulators.gcp import GcpEmulator
from support.document import document, issuer, series
from support.four_providers import aws_settings, gcp_settings
from support.service import Service, audit_records, failure, running, until

HSM = series(name="hsm", provider="aws")
SOFT = series(name="soft", provider="gcp", protection="software")
SPARE = series(name="spare", provider="spare")


def age(directory: Path) -> None:
    """Turn the store into one that migration 0005 has made and filled."""
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as store:
        for table, columns in (
            ("keys", ("disable_time", "destroy_due_time", "protection")),
            ("intents", ("protection",)),
        ):
            for column in columns:
                store.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        store.execute("UPDATE alembic_version SET version_num = '0005'")
        store.commit()


def noted(directory: Path) -> dict[str, list[str | None]]:
    """Return the protection of the keys of each series, as it is in the store."""
    found: dict[str, list[str | None]] = {}
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as store:
        for name, protection in store.execute("SELECT series, protection FROM keys ORDER BY series, ordinal"):
            found.setdefault(name, []).append(protection)
    return found


async def older(config: dict[str, Any], directory: Path) -> None:
    """Make the keys of a configuration, and forget how they are protected."""
    async with running(config) as service:
        assert all(k.protection for k in await service.list_keys())
    age(directory)


async def signer(service: Service) -> str:
    kid = (await service.sign()).kid
    return str(next(k.series for k in await service.list_keys() if k.kid == kid))


async def _signs(service: Service) -> bool:
    with contextlib.suppress(grpc.aio.AioRpcError):
        return bool((await service.sign()).kid)
    return False


async def test_i12_keys_of_an_older_store_are_not_replaced_by_keys_in_software(
    tmp_path: Path, emulator: AwsEmulator, gcp: GcpEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    providers = {"aws": aws_settings(emulator), "gcp": gcp_settings(gcp)}
    config = document(tmp_path, "", issuer(series=[HSM, SOFT]), providers=providers)
    await older(config, tmp_path)
    emulator.add_fault("http_500")
    async with running(config, wait=False) as service:
        await until(lambda: _noted(tmp_path, "soft", "software"))
        assert noted(tmp_path)["hsm"] == [None, None], "nobody knows"
        assert (await failure(service.sign())).reason == "PROVIDER_UNAVAILABLE"
        emulator.clear_faults()
        await until(lambda: _noted(tmp_path, "hsm", "hsm"))
        emulator.add_fault("http_500", operation="Sign")
        assert (await failure(service.sign())).reason == "PROVIDER_UNAVAILABLE"
    first, *_, last = [r for r in audit_records(config, "sign") if r["outcome"] == "failed"]
    assert first["passed_over"] == ["hsm: PROVIDER_UNAVAILABLE", "soft: UNKNOWN_PROTECTION"]
    assert last["passed_over"] == ["hsm: PROVIDER_UNAVAILABLE", "soft: LOWER_PROTECTION"]
    assert "keys of series soft are kept in software, and do not replace keys that are kept in hsm" in caplog.text


async def test_i12_keys_in_an_hsm_replace_those_of_an_older_store(
    tmp_path: Path, emulator: AwsEmulator, gcp: GcpEmulator
) -> None:
    providers = {"aws": aws_settings(emulator), "gcp": gcp_settings(gcp)}
    config = document(tmp_path, "", issuer(series=[SOFT, HSM]), providers=providers)
    await older(config, tmp_path)
    gcp.add_fault("unavailable")
    async with running(config, wait=False) as service:
        await until(lambda: _noted(tmp_path, "hsm", "hsm"))
        await until(lambda: _signs(service))
        assert await signer(service) == "hsm"
        assert noted(tmp_path)["soft"] == [None, None]


async def test_i12_the_kms_is_asked_once_for_each_key_of_an_older_store(
    tmp_path: Path, emulator: AwsEmulator, spare: AwsEmulator
) -> None:
    providers = {"aws": aws_settings(emulator), "spare": aws_settings(spare)}
    config = document(tmp_path, "", issuer(series=[HSM, SPARE]), providers=providers)
    await older(config, tmp_path)
    for one in (emulator, spare):
        one.reset_calls()
    async with asyncio.TaskGroup() as both:  # two replicas begin at once, and nobody waits for the other
        for _ in range(2):
            both.create_task(_until_noted(config, tmp_path))
    assert 2 <= emulator.calls["DescribeKey"] <= 4
    async with running(config) as service:
        assert {(k.series, k.protection) for k in await service.list_keys()} == {("hsm", "hsm"), ("spare", "hsm")}
        before = emulator.calls["DescribeKey"]
        emulator.add_fault("http_500", operation="Sign")
        assert await signer(service) == "spare"
    async with running(config):
        assert emulator.calls["DescribeKey"] == before


async def _until_noted(config: dict[str, Any], directory: Path) -> None:
    async with running(config):
        await until(lambda: _noted(directory, "hsm", "hsm"))
        await until(lambda: _noted(directory, "spare", "hsm"))


async def _noted(directory: Path, name: str, protection: str) -> bool:
    return set(noted(directory)[name]) == {protection}
