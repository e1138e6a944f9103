"""F15: no copy of the store lets a provider create keys again that was blocked, because all of its keys had been revoked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sealwright.app import unblock
from sealwright.config import parse
from sealwright.v1.keys_pb2 import Key, RevokeKeysRequest
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer, series
from support.four_providers import aws_settings
from support.service import Service, running, until

from .test_store_copies import command, in_thread, put_back, remove


@pytest.fixture
async def emulator() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as one:
        yield one


@pytest.fixture
async def spare() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as one:
        yield one


def on_two(directory: Path, first: AwsEmulator, second: AwsEmulator) -> dict[str, Any]:
    providers = {"aws": aws_settings(first), "spare": aws_settings(second)}
    made = [series(name="a"), series(name="b", provider="spare")]
    return document(directory, "", issuer(series=made), providers=providers)


async def revoke_provider(service: Service) -> None:
    await service.keys.RevokeKeys(RevokeKeysRequest(provider="aws", reason="stolen"))
    await until(lambda: _is_blocked(service))


async def _is_blocked(service: Service) -> bool:
    state = service.app.keyring.state
    return state is not None and "aws" in state.blocked


async def test_f15_a_copy_from_before_a_provider_was_blocked_is_refused_and_blocks_it_again(
    tmp_path: Path, emulator: AwsEmulator, spare: AwsEmulator
) -> None:
    """Its keys had been revoked one by one, so that the block is all that the copy lacks."""
    config, copy = on_two(tmp_path, emulator, spare), tmp_path / "copy.db"
    async with running(config) as service:
        emulator.add_fault("error", operation="CreateKey", type="AccessDeniedException")
        for key in await service.list_keys():
            if key.provider == "aws":
                await service.revoke(key.kid)
        assert (await in_thread(config, "backup", str(copy)))[0] == 0
        await revoke_provider(service)
    put_back(config, copy)
    code, found = await in_thread(config, "check")
    assert code == 1
    assert any("older copy" in p for p in found["problems"])
    assert "provider aws was blocked, and is not in the store" in found["problems"]
    code, found = await in_thread(config, "accept")
    assert code == 0
    assert any(n.startswith("provider aws is blocked again") for n in found["notes"])
    emulator.clear_faults()
    await stays_blocked(config, emulator)
    assert await unblock(parse(config), "aws")
    async with running(config) as service:
        await until(lambda: _has_key(service))
    assert (await asyncio.to_thread(command, config, "check"))[0] == 0, "that it was unblocked is known"


@pytest.mark.parametrize("lost", [True, False], ids=["empty", "older"])
async def test_f15_an_accepted_store_blocks_a_provider_again(
    tmp_path: Path, emulator: AwsEmulator, spare: AwsEmulator, *, lost: bool
) -> None:
    config, copy = on_two(tmp_path, emulator, spare), tmp_path / "copy.db"
    async with running(config) as service:
        assert (await in_thread(config, "backup", str(copy)))[0] == 0
        await revoke_provider(service)
    if lost:
        remove(config)
    else:
        put_back(config, copy)
    assert (await in_thread(config, "accept"))[0] == 0
    await stays_blocked(config, emulator)


async def stays_blocked(config: dict[str, Any], emulator: AwsEmulator) -> None:
    emulator.reset_calls()
    async with running(config, wait=False) as service:

        async def told() -> bool:
            return "keys unblock aws" in service.app.rotator.creation.failing.get("payments", "")

        await until(told)
        assert not emulator.calls.get("CreateKey")


async def _has_key(service: Service) -> bool:
    living = {Key.STATE_STANDBY, Key.STATE_ACTIVE}
    return any(k.provider == "aws" and k.state in living for k in await service.list_keys())
