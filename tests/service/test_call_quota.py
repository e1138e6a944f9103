"""I11: replicas share the calls that a KMS may get in a second, and a call that is shed says when to come back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer
from support.service import Failure, Service, audit_records, running, until

from .test_postgres import on

QUOTA = 50
PER_MINUTE = 5
LIMIT = 40.0


async def test_i11_replicas_make_equal_parts_of_the_calls_that_a_provider_allows(
    tmp_path: Path, url: str, emulator: AwsEmulator
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        services = []
        for name in ("one", "two"):
            tables = on(tmp_path, url, emulator, name, issuers=[issuer("payments")])
            tables["providers"]["aws"]["max_calls_per_second"] = QUOTA
            services.append(await stack.enter_async_context(running(tables)))

        async def shared() -> bool:
            return all(share(service) == 2 for service in services)

        await until(shared)
        before, began = emulator.calls["Sign"], asyncio.get_running_loop().time()
        await asyncio.gather(*(service.sign() for service in services for _ in range(QUOTA)))
        seconds = asyncio.get_running_loop().time() - began
        assert emulator.calls["Sign"] - before <= QUOTA * (seconds + 0.2) + 2


def share(service: Service) -> int:
    (provider,) = service.app._providers.values()
    assert provider.pace is not None
    return round(provider.pace._interval * QUOTA)


@pytest.fixture
async def overloaded(tmp_path: Path, emulator: AwsEmulator, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Service]:
    """A service that has no time to spare, as far as it knows."""
    tables = document(tmp_path, emulator.endpoint, issuer("payments"))
    tables["audit"]["refusals_per_minute"] = PER_MINUTE
    async with running(tables) as service:
        admission = service.app._grpc._boundary.admission

        def busy(_share: float, _seconds: float) -> None:
            admission._limit = LIMIT

        monkeypatch.setattr(admission, "look", busy)
        yield service


async def test_i11_what_is_shed_costs_no_call_of_the_kms_says_when_to_try_again_and_fills_no_audit(
    overloaded: Service, emulator: AwsEmulator
) -> None:
    async def limited() -> bool:
        return overloaded.app._grpc._boundary.admission.limited

    await until(limited)
    emulator.reset_calls()
    results = await asyncio.gather(*(overloaded.sign() for _ in range(100)), return_exceptions=True)
    errors = [Failure(error) for error in results if isinstance(error, grpc.aio.AioRpcError)]
    assert {(error.reason, error.retry_after) for error in errors} == {("OVERLOADED", 1)}
    assert len({error.request_id for error in errors}) == len(errors), "each has an ID, whether it has a record or not"
    assert emulator.calls["Sign"] == len(results) - len(errors) > 0
    records = [r for r in audit_records(overloaded.document, "sign") if r["reason"] == "OVERLOADED"]
    assert len(records) == PER_MINUTE < len(errors)
    assert {(r["caller"], r["outcome"]) for r in records} == {("local", "failed")}
    assert (await overloaded.get("/payments/.well-known/jwks.json"))[0] == 200
    assert await overloaded.list_keys(), "administration goes on"
