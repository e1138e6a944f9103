"""Clocks that are wrong, and a store that has not been read for too long."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright.config import parse
from sealwright.keys.ports import StoreState
from sealwright.sql.store import SqlStore
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer
from support.service import Service, audit_records, failure, running, until


class MovedClock:
    """The machine's clocks, moved."""

    def __init__(self) -> None:
        self.wall = timedelta()
        self.slept = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + self.wall

    def elapsed(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME) + self.slept


def rarely_read(directory: Path, emulator: AwsEmulator) -> dict[str, Any]:
    """A configuration whose store is read once, and then not while the test runs."""
    return document(directory, emulator.endpoint, issuer(), timing={"refresh_interval": "10m"})


async def test_a_store_not_read_for_s_stops_signing_and_for_max_serve_age_the_set(
    tmp_path: Path,
    emulator: AwsEmulator,
) -> None:
    async with running(document(tmp_path, emulator.endpoint)):
        pass
    clock = MovedClock()
    async with running(rarely_read(tmp_path, emulator), clock=clock) as service:
        await service.sign()
        clock.slept, clock.wall = 14 * 60.0, timedelta(minutes=14)
        await service.sign()
        clock.slept, clock.wall = 16 * 60.0, timedelta(minutes=16)
        refused = await failure(service.sign())
        assert (refused.code, refused.reason) == ("UNAVAILABLE", "STATE_TOO_OLD")
        assert refused.retry_after is not None
        assert (await service.get("/payments/.well-known/jwks.json"))[0] == 200
        assert (await service.get("/readyz"))[0] == 503
        assert (await service.get("/readyz/jwks"))[0] == 200
        clock.slept, clock.wall = 25 * 3600.0, timedelta(hours=25)
        assert (await service.get("/payments/.well-known/jwks.json"))[0] == 503
        assert (await service.get("/readyz/jwks"))[0] == 503
        assert (await service.get("/healthz"))[0] == 200


async def test_a_clock_off_by_more_than_max_clock_error_signs_nothing_and_changes_no_key(
    tmp_path: Path,
    emulator: AwsEmulator,
) -> None:
    async with running(document(tmp_path, emulator.endpoint)) as service:
        before = len(await service.list_keys())
    for seconds in (-6, 6):
        clock = MovedClock()
        clock.wall = timedelta(seconds=seconds)
        async with running(document(tmp_path, emulator.endpoint), clock=clock, wait=False) as service:
            await asyncio.sleep(0.3)
            assert (await failure(service.sign())).reason == "STATE_TOO_OLD"
            assert (await failure(service.rotate())).reason == "STATE_TOO_OLD"
            assert len(await service.list_keys()) == before
            assert len(await service.published()) == before


async def test_a_clock_that_is_a_little_off_signs_with_the_stores_time(tmp_path: Path, emulator: AwsEmulator) -> None:
    clock = MovedClock()
    clock.wall = timedelta(seconds=4)
    async with running(document(tmp_path, emulator.endpoint), clock=clock) as service:
        signed = await service.sign()
        assert signed.issue_time.seconds <= time.time()


async def test_a_machine_whose_clock_is_set_while_it_is_cut_off_stops_signing(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint)):
        pass
    clock = MovedClock()
    config = rarely_read(tmp_path, emulator)
    async with running(config, clock=clock) as service:
        await service.sign()
        clock.wall = timedelta(seconds=30)
        assert (await failure(service.sign())).reason == "STATE_TOO_OLD"
        assert audit_records(config, "sign")[-1]["reason"] == "STATE_TOO_OLD"


@pytest.mark.parametrize("jump", [60, -60])
async def test_i12_two_hosts_settle_a_jump_once(
    tmp_path: Path, emulator: AwsEmulator, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    """Each host sees the jump. The second one to act must not move the times of the keys once more."""
    timing = {"refresh_interval": "100ms", "clock_settle_time": "1s"}
    config, clocks = document(tmp_path, emulator.endpoint, issuer(), timing=timing), (MovedClock(), MovedClock())
    async with running(config, clock=clocks[0]) as one, running(config, clock=clocks[1]) as other:
        before = await _published(one)
        _set_store_clock(monkeypatch, timedelta(seconds=jump))
        for clock in clocks:
            clock.wall = timedelta(seconds=jump)
        await until(lambda: _differs(one, before))
        await until(lambda: _all_sign([one, other]))
        for host in (one, other):
            after = await _published(host)
            assert {kid: round(after[kid] - time) for kid, time in before.items()} == dict.fromkeys(before, jump)


async def test_i12_a_host_that_starts_while_the_databases_clock_is_ahead_drops_no_key(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    config = document(tmp_path, emulator.endpoint, issuer(), timing={"refresh_interval": "100ms"})
    async with running(config, clock=MovedClock()) as one:
        token = (await one.sign()).token
        await one.rotate()
        await until(lambda: _withdraws(one))
        async with contextlib.AsyncExitStack() as stack:
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            _set_store_clock(patch, timedelta(hours=3))  # by which the retired key would have left the set
            other = await stack.enter_async_context(running(config, clock=MovedClock(), wait=False))
            for service in (one, other):
                await until(lambda service=service: _too_old(service))  # type: ignore[misc]
                assert await service.verify(token)
            async with contextlib.aclosing(await SqlStore.open(parse(config).store, upgrade=False)) as store:
                (row,) = await store.replicas(datetime.now(UTC) + timedelta(hours=2))
            assert row.replica_id == other.app.replica_id, "others find it by the database's clock"
            patch.undo()
            await until(lambda: _all_sign([one, other]))
            assert await other.verify(token)


async def _withdraws(service: Service) -> bool:
    return any(k.HasField("withdraw_time") for k in await service.list_keys())


async def _too_old(service: Service) -> bool:
    return (await failure(service.sign())).reason == "STATE_TOO_OLD"


def _set_store_clock(monkeypatch: pytest.MonkeyPatch, jump: timedelta) -> None:
    """Set the clock of every store, as its replicas see it."""
    probe, read = SqlStore.probe, SqlStore.read

    async def moved_probe(store: SqlStore) -> tuple[int, datetime]:
        revision, time = await probe(store)
        return revision, time + jump

    async def moved_read(store: SqlStore, *known: Any) -> StoreState:
        state = await read(store, *known)
        return replace(state, time=state.time + jump)

    monkeypatch.setattr(SqlStore, "probe", moved_probe)
    monkeypatch.setattr(SqlStore, "read", moved_read)


async def _published(service: Service) -> dict[str, float]:
    return {k.kid: k.publish_time.ToNanoseconds() / 1e9 for k in await service.list_keys()}


async def _all_sign(services: Sequence[Service]) -> bool:
    return all([await _signs(s) for s in services])


async def _differs(service: Service, before: dict[str, float]) -> bool:
    return await _published(service) != before


async def _signs(service: Service) -> bool:
    with contextlib.suppress(grpc.aio.AioRpcError):
        return bool((await service.sign()).token)
    return False
