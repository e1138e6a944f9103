"""Credentials of another AWS account than the configured one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document
from support.service import running, until

OTHER = "999999999999"
both_transports = pytest.mark.parametrize("transport", ["http", "boto3"])


@pytest.fixture
async def emulator() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as one:
        yield one


def configured(directory: Path, emulator: AwsEmulator, account: str, transport: str) -> dict[str, Any]:
    one = document(directory, emulator.endpoint)
    one["providers"]["aws"] |= {"account": account, "transport": transport}
    return one


@both_transports
async def test_f18_nothing_is_created_in_another_account_and_both_numbers_are_logged(
    tmp_path: Path, emulator: AwsEmulator, caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    with caplog.at_level(logging.INFO):
        async with running(configured(tmp_path, emulator, OTHER, transport)) as service:
            reason = service.app.rotator.creation.failing["payments"]
            assert "PROVIDER_ACCESS_DENIED" in reason

            async def repeated() -> bool:
                return emulator.calls["GetCallerIdentity"] >= 3

            await until(repeated)
            assert "CreateKey" not in emulator.calls
    said = [r.getMessage() for r in caplog.records if OTHER in r.getMessage()]
    assert said
    assert all(emulator.account in text for text in said)


@both_transports
async def test_f18_the_right_account_is_asked_for_before_each_key(
    tmp_path: Path, emulator: AwsEmulator, transport: str
) -> None:
    async with running(configured(tmp_path, emulator, emulator.account, transport)) as service:
        assert (await service.sign()).token
        asked = [r.operation for r in emulator.requests if r.operation in {"CreateKey", "GetCallerIdentity"}]
        assert asked[0] == "GetCallerIdentity"
        assert asked.count("CreateKey") == asked.count("GetCallerIdentity") == 2


@both_transports
async def test_f18_where_sts_does_not_answer_any_key_tells_the_account(
    tmp_path: Path, emulator: AwsEmulator, caplog: pytest.LogCaptureFixture, transport: str
) -> None:
    async with running(configured(tmp_path, emulator, emulator.account, transport)):
        pass
    emulator.add_fault("error", operation="GetCallerIdentity", type="AccessDeniedException")
    for account, made in ((OTHER, 2), (emulator.account, 4)):
        directory = tmp_path / account
        directory.mkdir()
        async with running(configured(directory, emulator, account, transport)):
            assert emulator.calls["CreateKey"] == made
    assert f"account is {OTHER}, but the AWS credentials belong to account {emulator.account}" in caplog.text


async def test_f18_an_account_that_cannot_be_found_out_is_not_taken_for_the_right_one(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    emulator.add_fault("error", operation="GetCallerIdentity", type="AccessDeniedException")
    async with running(configured(tmp_path, emulator, emulator.account, "http")) as service:
        assert "PROVIDER_ACCESS_DENIED" in service.app.rotator.creation.failing["payments"]
        assert "CreateKey" not in emulator.calls
        emulator.clear_faults()

        async def signs() -> bool:
            return not service.app.readiness.unable()

        await until(signs)
