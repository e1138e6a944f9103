"""Changes of keys where something gets in the way."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright.app import build
from sealwright.config import parse
from sealwright.errors import ConfigurationError
from sealwright.v1 import keys_pb2
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import QUICK_TIMING, document, issuer, quick_issuer, series
from support.service import Service, audit_records, failure, running, until


async def test_a_revocation_whose_caller_leaves_is_carried_to_its_end_and_on_record(
    service: Service,
    emulator: AwsEmulator,
) -> None:
    active = (await service.list_keys())[0]
    emulator.add_fault("delay", operation="DisableKey", seconds=0.5)
    request = keys_pb2.RevokeKeysRequest(name=active.name, reason="stolen")
    call = service.keys.RevokeKeys(request, timeout=0.2)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await call

    async def ended() -> bool:
        return [r["outcome"] for r in audit_records(service.document, "revoke")] == ["begun", "allowed"]

    await until(ended)
    assert active.kid not in await service.published()
    assert emulator.calls["DisableKey"] == 1


async def test_a_change_is_on_record_before_anything_changes(service: Service) -> None:
    await service.rotate(validate_only=True)
    await service.rotate()
    records = [r for r in audit_records(service.document) if r["event"] in {"rotate", "key_changed"}]
    retired = next(i for i, r in enumerate(records) if "retire_time" in r)
    assert [(r["event"], r.get("outcome")) for r in records[: retired + 1]] == [
        ("rotate", "allowed"),  # the plan
        ("rotate", "begun"),
        ("key_changed", None),
    ]


async def test_a_store_that_cannot_be_written_is_said_with_a_hint_to_retry(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint)) as service:
        active = (await service.list_keys())[0]
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for call in (service.rotate(), service.revoke(active.kid)):
                refused = await failure(call)
                assert (refused.code, refused.reason) == ("UNAVAILABLE", "STATE_TOO_OLD")
                assert refused.retry_after is not None
            assert (await service.sign()).token
            other.execute("ROLLBACK")
        await service.rotate()


async def test_an_intent_for_a_provider_that_is_gone_holds_nobody_up(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint)
    emulator.add_fault("http_500", operation="CreateKey")
    async with running(config, wait=False):
        await asyncio.sleep(0.3)
    emulator.clear_faults()
    moved: dict[str, Any] = config | {
        "providers": {"other": config["providers"]["aws"]},
        "issuers": [issuer("payments", series=[series(provider="other")])],
    }
    async with running(moved) as service:
        signed = await service.sign()
        keys = await service.list_keys()
        assert next(k for k in keys if k.kid == signed.kid).provider == "other"


async def test_keys_of_a_series_that_is_no_longer_configured_stay_published_and_do_not_sign(
    tmp_path: Path,
    emulator: AwsEmulator,
) -> None:
    """The configuration is refused until the new series can sign (F17)."""
    old_series, new_series = series(), series(name="new", min_lead="0s")
    timing = {**QUICK_TIMING, "verifier_refresh": "0s"}
    both = document(tmp_path, emulator.endpoint, quick_issuer(series=[old_series, new_series]), timing=timing)
    only_new = document(tmp_path, emulator.endpoint, quick_issuer(series=[new_series]), timing=timing)
    async with running(document(tmp_path, emulator.endpoint, quick_issuer(), timing=timing)) as service:
        old = await service.sign()
    async with running(both) as service:
        await until(lambda: _has(service, 4))
        with pytest.raises(ConfigurationError, match="keeps its name"):
            await build(parse(only_new)).start()
        times = [k.ready_time.ToDatetime(UTC) for k in await service.list_keys() if k.series == "new"]
        await until(lambda: _passed(max(times)))
    async with running(only_new) as service:
        await service.verify(old.token)
        assert old.kid in await service.published()
        assert (await service.sign()).kid != old.kid


async def _passed(time: datetime) -> bool:
    return datetime.now(UTC) > time + timedelta(seconds=1)


async def _has(service: Service, count: int) -> bool:
    return len(await service.list_keys()) >= count


async def test_a_store_that_goes_back_in_time_is_not_believed(tmp_path: Path, emulator: AwsEmulator) -> None:
    async with running(document(tmp_path, emulator.endpoint)) as service:
        active = (await service.list_keys())[0]
        await service.revoke(active.kid)
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as other:
            other.execute("UPDATE keys SET revoke_time = NULL")
            other.execute("UPDATE deployment SET revision = 2")
            other.commit()
        await asyncio.sleep(0.5)
        assert active.kid not in await service.published()
        assert (await failure(service.rotate())).reason == "STATE_TOO_OLD"


async def test_a_key_is_listed_with_the_time_from_which_it_may_sign(service: Service) -> None:
    await service.rotate()

    async def complete() -> bool:
        keys = await service.list_keys()
        assert all(key.HasField("ready_time") for key in keys)
        return len(keys) == 3

    await until(complete)
