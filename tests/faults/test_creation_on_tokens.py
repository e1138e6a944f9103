"""Creations on a PKCS#11 token that hang, and keys of others in it."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faults.test_trial import full, reason
from sealwright.app import orphans
from sealwright.config import parse
from sealwright.keys.lifecycle import QUEUE_LENGTH
from sealwright_testing.pkcs11_faults import Call, FaultyModule
from sealwright_testing.softhsm import SoftHsm, soft_hsm, softhsm_module
from support.document import document, issuer, series
from support.four_providers import faulty_module
from support.service import running, until

_LONG = 600_000
GENERAL_ERROR, DEVICE_ERROR = 0x5, 0x30


@pytest.fixture(scope="module")
def module(tmp_path_factory: pytest.TempPathFactory) -> FaultyModule:
    return faulty_module(tmp_path_factory.mktemp("faults"))


@pytest.fixture
def hsm(module: FaultyModule) -> Iterator[SoftHsm]:
    with soft_hsm(softhsm_module() or "") as token:
        module.mend()
        yield token
        module.mend()


def on_token(
    directory: Path, hsm: SoftHsm, module: FaultyModule, algorithm: str = "ES256", timeout: str = "700ms"
) -> dict[str, Any]:
    table = hsm.settings(module=module.path, sessions=4, manage_timeout=timeout)
    one = issuer("payments", series=[series(algorithm, provider="hsm")])
    return document(directory, "", one, providers={"hsm": table})


def outcomes(directory: Path) -> list[str | None]:
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as store:
        return [row[0] for row in store.execute("SELECT outcome FROM intents")]


async def test_f54_a_key_that_a_token_generates_late_is_adopted(
    tmp_path: Path, hsm: SoftHsm, module: FaultyModule
) -> None:
    config = on_token(tmp_path, hsm, module)
    module.delay(Call.GENERATE_KEY_PAIR, _LONG)
    async with running(config, wait=False) as service:

        async def hangs() -> bool:
            return "PROVIDER_" in reason(service)

        await until(hangs)
        module.delay(Call.GENERATE_KEY_PAIR, 0)
        await until(lambda: full(service))
        await service.verify((await service.sign()).token)
        assert (await orphans(parse(config))).uris == {"hsm": []}
        assert "found" in outcomes(tmp_path)


@pytest.mark.parametrize("error", [GENERAL_ERROR, DEVICE_ERROR])
async def test_f54_a_generation_whose_outcome_is_unclear_gets_another_intent(
    tmp_path: Path, hsm: SoftHsm, module: FaultyModule, error: int
) -> None:
    config = on_token(tmp_path, hsm, module)
    module.fail(Call.GENERATE_KEY_PAIR, error, QUEUE_LENGTH)
    async with running(config, wait=False) as service:
        await until(lambda: full(service))
        assert (await service.sign()).token
        assert (await orphans(parse(config))).uris == {"hsm": []}


@pytest.mark.parametrize("algorithm", ["ES256", "HS256"])
async def test_f14_a_token_that_does_not_sign_with_a_new_key_yet_is_asked_again(
    tmp_path: Path, hsm: SoftHsm, module: FaultyModule, algorithm: str
) -> None:
    config = on_token(tmp_path, hsm, module, algorithm, timeout="20s")  # nothing hangs here, but a machine may be slow
    module.fail(Call.SIGN_INIT, DEVICE_ERROR)
    async with running(config, wait=False) as service:

        async def refused() -> bool:
            return "PROVIDER_" in reason(service)

        await until(refused)
        assert await service.list_keys() == []
        module.mend()
        await until(lambda: full(service))
        assert (await service.sign()).token
        assert (await orphans(parse(config))).uris == {"hsm": []}
        assert outcomes(tmp_path) == [None] * QUEUE_LENGTH
