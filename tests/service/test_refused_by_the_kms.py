"""C103, C49: a KMS that refuses a key because it was revoked, here or on another replica, and one that refuses another key."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from sealwright.keys.revocation_check import AGAIN_SECONDS
from sealwright_testing.emulators.aws import AwsEmulator, KeyState
from support.document import document, issuer, series
from support.four_providers import aws_settings
from support.service import Service, audit_records, failure, running, until

SELDOM = {"refresh_interval": "30s", "max_staleness": "60s"}
"""With SQLite no replica hears of a change before its next read."""


def seldom(directory: Path, emulator: AwsEmulator, **more: Any) -> dict[str, Any]:
    return document(directory, emulator.endpoint, issuer(series=[series(min_lead="0s")]), timing=SELDOM, **more)


async def key_id(service: Service, kid: str) -> str:
    uris = {k.kid: str(k.key_uri) for k in await service.list_keys()}
    return uris[kid].rpartition("/")[2]


def watched(service: Service, monkeypatch: pytest.MonkeyPatch) -> AsyncMock:
    """Return what counts the reads of the store that refused keys cause."""
    check = service.app.health._check
    reads = AsyncMock(wraps=check._refresh)
    monkeypatch.setattr(check, "_refresh", reads)
    return reads


async def test_c103_a_call_that_reaches_the_kms_after_the_revocation_is_to_be_repeated(
    service: Service, emulator: AwsEmulator
) -> None:
    kid = (await service.sign()).kid
    calls = emulator.calls["Sign"]
    emulator.add_fault("delay", operation="Sign", seconds=1.0)
    signing = asyncio.create_task(failure(service.sign()))

    async def asked() -> bool:
        return emulator.calls["Sign"] > calls

    await until(asked)
    await service.revoke(kid)
    assert emulator.keys[await key_id(service, kid)].state is KeyState.DISABLED
    refused = await signing
    assert (refused.code, refused.reason, refused.retry_after) == ("UNAVAILABLE", "NO_ACTIVE_KEY", 0)
    emulator.clear_faults()
    assert (await service.sign()).kid != kid
    record = audit_records(service.document, "sign")[-2]
    assert (record["outcome"], record["reason"], record["kid"]) == ("failed", "NO_ACTIVE_KEY", kid)
    assert service.app.health.calm, "nothing is wrong with a key that was revoked"


async def test_c103_a_replica_that_the_kms_refuses_learns_of_the_revocation_at_once(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    other = tmp_path / "audit-of-another"
    async with (
        running(seldom(tmp_path, emulator)) as one,
        running(seldom(tmp_path, emulator, audit={"path": str(other)})) as two,
    ):
        kid = (await two.sign()).kid
        await one.revoke(kid)
        refused = await asyncio.gather(*(failure(two.sign()) for _ in range(5)))
        assert {(f.code, f.reason, f.retry_after) for f in refused} == {("UNAVAILABLE", "NO_ACTIVE_KEY", 0)}
        assert (await two.sign()).kid == (await one.sign()).kid != kid
        assert kid not in await two.published()
        assert two.app.health.calm


async def test_c49_a_disabled_key_is_looked_up_in_the_store_now_and_then_and_not_for_each_call(
    tmp_path: Path, emulator: AwsEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(seldom(tmp_path, emulator)) as service:
        key = await key_id(service, (await service.sign()).kid)
        reads, begun = watched(service, monkeypatch), time.monotonic()
        emulator.set_key_state(key, KeyState.DISABLED)
        for _ in range(5):
            failures = await asyncio.gather(*(failure(service.sign()) for _ in range(9)))
            assert {(f.code, f.reason) for f in failures} == {("FAILED_PRECONDITION", "PROVIDER_KEY_DISABLED")}
        assert 1 <= reads.call_count <= 1 + (time.monotonic() - begun) / AGAIN_SECONDS
        assert not service.app.health.calm
        emulator.set_key_state(key, KeyState.ENABLED)
        await service.sign()
        assert service.app.health.calm


async def test_c49_a_key_that_somebody_disabled_is_no_trouble_any_more_once_it_is_revoked(
    tmp_path: Path, emulator: AwsEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sealwright.keys.health.PROBE_SECONDS", 0.1)
    async with running(document(tmp_path, emulator.endpoint)) as service:
        kid = (await service.sign()).kid
        emulator.set_key_state(await key_id(service, kid), KeyState.DISABLED)
        assert (await failure(service.sign())).reason == "PROVIDER_KEY_DISABLED"
        assert not service.app.health.calm
        await service.revoke(kid)

        async def calm() -> bool:
            return service.app.health.calm

        await until(calm)
        assert (await service.sign()).kid != kid


async def test_c103_a_replica_learns_of_the_revocation_also_if_the_next_series_signs(
    tmp_path: Path, emulator: AwsEmulator, spare: AwsEmulator
) -> None:
    both = [series(name=name, provider=name, min_lead="0s") for name in ("aws", "spare")]
    providers = {"aws": aws_settings(emulator), "spare": aws_settings(spare)}
    config = document(tmp_path, "", issuer(series=both), providers=providers, timing=SELDOM)
    other = {**config, "audit": {"path": str(tmp_path / "audit-of-another")}}
    async with running(config) as one, running(other) as two:
        kid = (await two.sign()).kid
        assert kid in await two.published()
        await one.revoke(kid)
        assert (await two.sign()).kid != kid

        async def knows() -> bool:
            return kid not in await two.published()

        await until(knows)
