from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from click.testing import CliRunner

from sealwright_testing.__main__ import main
from sealwright_testing.emulators.aws import AwsEmulator, ThreadedAwsEmulator

if TYPE_CHECKING:
    from collections.abc import Iterator


def client(endpoint: str, **options: Any) -> Any:
    settings = {"region_name": "eu-west-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    return boto3.session.Session().client("kms", endpoint_url=endpoint, **(settings | options))


@contextmanager
def running(*options: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    command = [sys.executable, "-m", "sealwright_testing", "aws", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own command
        try:
            assert process.stdout is not None
            yield process, json.loads(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_prints_its_endpoint_serves_and_ends_with_0(number: signal.Signals) -> None:
    with running() as (process, line):
        assert list(line) == ["endpoint"]
        kms = client(line["endpoint"])
        assert kms.create_key()["KeyMetadata"]["AWSAccountId"] == "111122223333"
        kms.close()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert process.stdout is not None
        assert process.stdout.read() == ""


def test_the_command_takes_credentials_region_and_account() -> None:
    options = ("--access-key", "AKIAX", "--secret-key", "s", "--region", "us-east-2", "--account", "999988887777")
    with running(*options, "--port", "0", "--host", "127.0.0.1") as (_, line):
        kms = client(line["endpoint"], region_name="us-east-2", aws_access_key_id="AKIAX", aws_secret_access_key="s")
        arn = kms.create_key()["KeyMetadata"]["Arn"]
        kms.close()
    assert arn.startswith("arn:aws:kms:us-east-2:999988887777:key/")


def test_a_port_in_use_is_said_and_not_a_traceback() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(main, ["aws", "--port", str(port)])
    assert result.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.output


def test_options_that_do_not_exist_are_a_usage_error() -> None:
    for arguments in (["aws", "--bogus"], ["aws", "--port", "70000"], ["bogus"]):
        assert CliRunner().invoke(main, arguments).exit_code == 2


def test_the_emulator_runs_in_a_thread() -> None:
    with ThreadedAwsEmulator(region="eu-west-3") as emulator:
        kms = client(emulator.endpoint, region_name="eu-west-3")
        kms.create_key()
        emulator.add_fault("drop_connection", operation="ListKeys", times=1)
        assert len(kms.list_keys()["Keys"]) == 1  # boto3 retries by itself
        emulator.clear_faults()
        assert (emulator.calls["ListKeys"], len(emulator.keys)) == (2, 1)
        kms.close()


def test_a_thread_whose_port_is_taken_says_so() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="address already in use"):
        ThreadedAwsEmulator(port=taken.getsockname()[1]).__enter__()


async def test_an_emulator_may_be_stopped_twice() -> None:
    emulator = AwsEmulator()
    await emulator.start()
    assert emulator.endpoint.startswith("http://127.0.0.1:")
    await emulator.stop()
    await emulator.stop()
