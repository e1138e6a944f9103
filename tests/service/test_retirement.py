"""I12: what happens in the KMS to keys that have left the JWK Set: disabled at once, and deleted at a deadline of their own."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from faults.crashing import OfEmulator, backend, identity, objects_of
from sealwright_testing.emulators.aws import AwsEmulator, KeyState
from sealwright_testing.emulators.gcp import GcpEmulator
from sealwright_testing.softhsm import SoftHsm, soft_hsm, softhsm_module
from support.document import QUICK_TIMING, document, quick_issuer, series, tool_missing
from support.service import Service, audit_records, running, until

CLOUDS = ("aws", "gcp", "azure")
DAY = 86400


def quick(provider: str, **more: Any) -> dict[str, Any]:
    """Return an issuer whose keys leave the set seconds after their retirement."""
    one = series("ES256", provider=provider, min_lead="0s", **more)
    return quick_issuer(max_lifetime="1s", default_lifetime="1s", series=[one])


def configured(directory: Path, provider: str, settings: dict[str, Any], **more: Any) -> dict[str, Any]:
    return document(directory, "", quick(provider, **more), timing=QUICK_TIMING, providers={provider: settings})


@pytest.fixture
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[OfEmulator]:
    with backend(request.param, tmp_path, "", "") as one:
        assert isinstance(one, OfEmulator)
        yield one


def state_of(at: OfEmulator, uri: str) -> tuple[str, float | None]:
    """Return the state of a key in its KMS, and for how many days it can still be restored."""
    emulator = at._emulator
    if isinstance(emulator, AwsEmulator):
        key = emulator.keys[uri.rpartition("/")[2]]
        left = None if key.deletion_time is None else (key.deletion_time - time.time()) / DAY
        return {KeyState.ENABLED: "on", KeyState.DISABLED: "off"}.get(key.state, "deleted"), left
    if isinstance(emulator, GcpEmulator):
        crypto_key, _, _ = uri.removeprefix("gcpkms://").partition("/cryptoKeyVersions/")
        version = emulator.store.key(crypto_key).versions[uri.removeprefix("gcpkms://")]
        left = None if version.destroy_time is None else (version.destroy_time - time.time()) / DAY
        return {"ENABLED": "on", "DISABLED": "off"}.get(version.set_state, "deleted"), left
    name = uri.split("/")[-2]
    gone = emulator.vault.keys.deleted(name)
    if gone is not None:
        return "deleted", (gone.purged - gone.deleted) / DAY
    (only,) = emulator.vault.keys.all_versions(name)
    return ("on" if only.enabled else "off"), None


async def key_of(service: Service, kid: str) -> Any:
    return next(k for k in await service.list_keys() if k.kid == kid)


async def retired(service: Service) -> Any:
    """Retire the active key, and return it when the next one signs."""
    old = (await service.sign()).kid
    await until(lambda: _rotated(service, old))
    return await key_of(service, old)


async def _rotated(service: Service, old: str) -> bool:
    """Rotate, unless it is too early."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        await service.rotate(expected_kid=old)
        return True
    return False


async def ids(hsm: SoftHsm) -> set[str]:
    return {identifier for _, identifier, _ in await asyncio.to_thread(objects_of, hsm)}


async def has(service: Service, kid: str, time: str) -> bool:
    return bool((await key_of(service, kid)).HasField(time))


@pytest.mark.parametrize("at", CLOUDS, indirect=True)
async def test_i12_a_withdrawn_key_is_disabled_and_then_deleted_with_the_longest_grace(
    tmp_path: Path, at: OfEmulator, request: pytest.FixtureRequest
) -> None:
    provider = request.node.callspec.params["at"]
    config = configured(tmp_path, provider, at.settings, destroy_after="2s")
    async with running(config) as service:
        key = await retired(service)
        assert state_of(at, key.key_uri) == ("on", None), "its tokens live"
        await until(lambda: has(service, key.kid, "disable_time"))
        assert key.kid not in await service.published()
        assert state_of(at, key.key_uri) == ("off", None)
        await until(lambda: has(service, key.kid, "destroy_time"))
        state, left = state_of(at, key.key_uri)
        assert (state, round(left or 0)) == ("deleted", 90 if provider == "azure" else 30)
        key = await key_of(service, key.kid)
        assert key.withdraw_time.ToNanoseconds() + 2 * 10**9 == key.destroy_due_time.ToNanoseconds()
        assert key.withdraw_time.ToNanoseconds() <= key.disable_time.ToNanoseconds() < key.destroy_time.ToNanoseconds()
        others = [k for k in await service.list_keys() if k.kid != key.kid]
        assert {state_of(at, k.key_uri) for k in others} == {("on", None)}
    changes = [r for r in audit_records(config, "key_changed") if r["kid"] == key.kid]
    assert {"disable_time", "destroy_due_time", "destroy_time"} <= {name for r in changes for name in r}


async def test_i12_a_token_destroys_a_key_at_its_deadline_because_pkcs11_has_no_grace(tmp_path: Path) -> None:
    module = softhsm_module()
    if module is None:
        tool_missing("softhsm2")
    with soft_hsm(module or "") as hsm:
        config = configured(tmp_path, "pkcs11", hsm.settings(), destroy_after="2s")
        async with running(config) as service:
            key = await retired(service)
            await until(lambda: has(service, key.kid, "disable_time"))
            assert identity(key.key_uri) in await ids(hsm)
            await until(lambda: has(service, key.kid, "destroy_time"))
            assert identity(key.key_uri) not in await ids(hsm)


@pytest.mark.usefixtures("each_database")
async def test_i12_a_key_keeps_its_deadline_and_absent_means_never(tmp_path: Path, emulator: AwsEmulator) -> None:
    settings = {"kind": "aws", "region": "eu-west-1", "endpoint_url": emulator.endpoint}

    def state(key: Any) -> KeyState:
        return emulator.keys[key.key_uri.rpartition("/")[2]].state

    async with running(configured(tmp_path, "aws", settings)) as service:
        never = await retired(service)
        await until(lambda: has(service, never.kid, "disable_time"))
    async with running(configured(tmp_path, "aws", settings, destroy_after="1000d")) as service:
        late = await retired(service)
        await until(lambda: has(service, late.kid, "withdraw_time"))
    async with running(configured(tmp_path, "aws", settings, destroy_after="0s")) as service:
        soon = await retired(service)
        await until(lambda: has(service, soon.kid, "destroy_time"))
        keys = [await key_of(service, k.kid) for k in (never, late, soon)]
        assert [k.HasField("destroy_due_time") for k in keys] == [False, True, True]
        assert not keys[1].HasField("destroy_time"), "a shorter time does not reach back"
        assert [state(k) for k in keys[::2]] == [KeyState.DISABLED, KeyState.PENDING_DELETION]


async def test_i12_a_kms_that_refuses_or_hangs_delays_no_rotation_and_is_asked_again(
    tmp_path: Path, emulator: AwsEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"kind": "aws", "region": "eu-west-1", "endpoint_url": emulator.endpoint}
    async with running(configured(tmp_path, "aws", settings, destroy_after="0s")) as service:
        emulator.add_fault("hang", operation="DisableKey")
        emulator.add_fault("error", operation="ScheduleKeyDeletion", type="AccessDeniedException")
        with caplog.at_level(logging.WARNING):
            first = await retired(service)
            second = await retired(service)
            assert (await service.sign()).kid not in {first.kid, second.kid}

            async def tried() -> bool:
                return emulator.calls.get("DisableKey", 0) > 0 and emulator.calls.get("ScheduleKeyDeletion", 0) > 0

            await until(tried)
            text = f"issuer payments: the deletion of key {first.kid} could not be scheduled: PROVIDER_ACCESS_DENIED"
            await until(lambda: said(caplog, text))
            assert sum(text in m for m in caplog.messages) == 1
        emulator.clear_faults()
        for key in (first, second):
            await until(lambda kid=key.kid: has(service, kid, "destroy_time"))  # type: ignore[misc]


async def said(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return any(text in m for m in caplog.messages)


async def test_i12_a_revoked_key_is_disabled_at_once_and_deleted_only_if_it_was_retired_before(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    settings = {"kind": "aws", "region": "eu-west-1", "endpoint_url": emulator.endpoint}
    async with running(configured(tmp_path, "aws", settings, destroy_after="0s")) as service:
        old = await retired(service)
        await service.revoke(old.kid)
        active = await service.sign()
        await service.revoke(active.kid)
        await until(lambda: has(service, old.kid, "destroy_time"))
        evidence = await key_of(service, active.kid)
        assert not evidence.HasField("destroy_due_time")
        assert emulator.keys[evidence.key_uri.rpartition("/")[2]].state is KeyState.DISABLED
