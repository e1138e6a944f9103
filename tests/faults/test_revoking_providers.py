"""Revoking everything that the credentials of a provider reach, over many issuers and through every interruption."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from faults.test_processes_end import children, served
from sealwright.app import unblock
from sealwright.config import parse
from sealwright.v1.keys_pb2 import ListKeysRequest, RevokeKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright_testing.emulators.aws import AwsEmulator, KeyState
from support.document import document, issuer, series
from support.processes import process
from support.service import Service, running, until
from support.waiting import eventually

ISSUERS = 40
STOLEN = RevokeKeysRequest(provider="aws", reason="the credentials are stolen")


@pytest.fixture
async def emulator() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as one:
        yield one


def many(directory: Path, emulator: AwsEmulator, issuers: int = ISSUERS, **more: Any) -> dict[str, Any]:
    """Return a configuration whose issuers have one series at `aws` and one at `other`, on the same emulator."""
    both = [series(name="first"), series(name="second", provider="other")]
    config = document(directory, emulator.endpoint, *(issuer(f"i{n}", series=both) for n in range(issuers)), **more)
    config["providers"]["other"] = config["providers"]["aws"]
    return config


def keys_of(directory: Path, provider: str = "aws") -> list[dict[str, Any]]:
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as store:
        store.row_factory = sqlite3.Row
        return [dict(r) for r in store.execute("SELECT * FROM keys WHERE provider = ?", (provider,))]


def states(directory: Path, emulator: AwsEmulator) -> list[KeyState]:
    return [emulator.keys[k["uri"].rpartition("/")[2]].state for k in keys_of(directory)]


async def ready(service: Service) -> bool:
    return not service.app.readiness.unable()


async def test_f56_everything_is_revoked_in_one_commit_before_the_kms_is_asked(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    config = many(tmp_path, emulator)
    async with running(config) as service:
        await until(lambda: ready(service))
        emulator.add_fault("hang", operation="DisableKey")
        created = emulator.calls["CreateKey"]
        call = service.keys.RevokeKeys(STOLEN)

        async def asked() -> bool:
            return emulator.calls.get("DisableKey", 0) > 0

        await until(asked)
        assert all(k["revoke_time"] for k in keys_of(tmp_path))
        assert len({k["revoke_time"] for k in keys_of(tmp_path)}) == 1, "one commit"
        done = await call
        assert len(done.keys) == 2 * ISSUERS
        assert {k.provider for k in done.keys} == {"aws"}
        assert any("still being disabled" in w or "could not be disabled" in w for w in done.warnings)
        assert any("sealwright keys unblock aws" in w for w in done.warnings)
        for n in range(ISSUERS):
            assert (await service.sign(issuer=f"i{n}")).token
        assert emulator.calls["CreateKey"] == created, "no new keys with stolen credentials"
        emulator.clear_faults()

        async def disabled() -> bool:
            return set(states(tmp_path, emulator)) == {KeyState.DISABLED}

        await until(disabled)


async def test_f56_a_caller_who_does_not_wait_does_not_stop_it(tmp_path: Path, emulator: AwsEmulator) -> None:
    async with running(many(tmp_path, emulator)) as service:
        await until(lambda: ready(service))
        emulator.add_fault("delay", operation="DisableKey", seconds=1.0)
        with pytest.raises(grpc.aio.AioRpcError) as left:
            await service.keys.RevokeKeys(STOLEN, timeout=0.5)
        assert left.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

        async def revoked() -> bool:
            return all(k["revoke_time"] for k in keys_of(tmp_path))

        await until(revoked)
        emulator.clear_faults()

        async def disabled() -> bool:
            return set(states(tmp_path, emulator)) == {KeyState.DISABLED}

        await until(disabled)


async def test_f56_whoever_starts_next_goes_on(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = many(tmp_path, emulator, issuers=8)
    async with running(config) as service:
        await until(lambda: ready(service))
        emulator.add_fault("http_500", operation="DisableKey")
        await service.keys.RevokeKeys(STOLEN)
    assert set(states(tmp_path, emulator)) == {KeyState.ENABLED}
    emulator.clear_faults()
    created = emulator.calls["CreateKey"]
    async with running(config):

        async def disabled() -> bool:
            return set(states(tmp_path, emulator)) == {KeyState.DISABLED}

        await until(disabled)
        assert emulator.calls["CreateKey"] == created, "the provider is still blocked"


async def test_f56_a_repeated_call_changes_nothing_and_a_plan_writes_nothing(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(many(tmp_path, emulator, issuers=3)) as service:
        await until(lambda: ready(service))
        before = keys_of(tmp_path)
        plan = await service.keys.RevokeKeys(RevokeKeysRequest(provider="aws", reason="a drill", validate_only=True))
        assert keys_of(tmp_path) == before
        assert len(plan.keys) == 6
        assert not service.app.keyring.state.blocked  # type: ignore[union-attr]
        first = await service.keys.RevokeKeys(STOLEN)
        again = await service.keys.RevokeKeys(STOLEN)
        assert [k.revoke_time for k in again.keys] == [k.revoke_time for k in first.keys]
        assert not again.warnings


async def test_f56_a_key_on_its_way_at_the_provider_is_not_published_but_deleted(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(many(tmp_path, emulator, issuers=1)) as service:
        await until(lambda: ready(service))
        emulator.add_fault("error", operation="GetPublicKey", type="AccessDeniedException")
        created = emulator.calls["CreateKey"]
        await service.rotate("i0", series="first")

        async def on_its_way() -> bool:
            return emulator.calls["CreateKey"] == created + 1

        await until(on_its_way)
        await service.keys.RevokeKeys(STOLEN)
        emulator.clear_faults()

        async def deleted() -> bool:
            return KeyState.PENDING_DELETION in {k.state for k in emulator.keys.values()}

        await until(deleted)
        assert all(k["revoke_time"] for k in keys_of(tmp_path))


async def test_f56_an_operator_permits_the_provider_again(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = many(tmp_path, emulator, issuers=2)
    async with running(config) as service:
        await until(lambda: ready(service))
        await service.keys.RevokeKeys(STOLEN)

        async def told() -> bool:
            return "keys unblock aws" in service.app.rotator.creation.failing.get("i0", "")

        await until(told)
        assert await unblock(parse(config), "aws")
        assert not await unblock(parse(config), "aws")

        async def made() -> bool:
            return sum(not k["revoke_time"] for k in keys_of(tmp_path)) == 4

        await until(made)

        async def quiet() -> bool:
            return not service.app.rotator.creation.failing

        await until(quiet)


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[str]:
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as running_emulator:
        yield running_emulator.ready["endpoint"]


def test_f56_a_worker_that_was_killed_is_not_waited_for(tmp_path: Path, kms: str) -> None:
    def replicas() -> set[str]:
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as store:
            return {row[0] for row in store.execute("SELECT replica_id FROM replicas")}

    with process(tmp_path, "sealwright", "serve", "--config", served(tmp_path, kms)) as service:
        eventually(lambda: len(replicas()) == 2, "not both workers have a row")
        before = replicas()
        os.kill(children(service.popen.pid)[0], signal.SIGKILL)
        eventually(lambda: len(replicas() & before) == 1 and len(replicas()) == 2, "the row of the dead worker stays")
        with grpc.insecure_channel(service.ready["grpc"]) as channel:
            stub = KeyServiceStub(channel)
            active = stub.ListKeys(ListKeysRequest(parent="issuers/payments"), timeout=10).keys[0]
            done = stub.RevokeKeys(RevokeKeysRequest(name=active.name, reason="stolen"), timeout=30)
        assert not done.stale_replicas
