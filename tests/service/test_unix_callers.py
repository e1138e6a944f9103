"""Callers on a Unix socket are the users that the kernel names."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sealwright.app import build
from sealwright.config import parse
from sealwright.errors import ConfigurationError
from sealwright.server import sockets
from sealwright.v1 import signing_pb2
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, tool_missing
from support.service import Service, audit_records, failure, running, until

ME = f"unix:uid={os.geteuid()}"
OTHER = 12_345
ORDER = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}")
CLIENT = """
import os, sys
import grpc
from sealwright.v1 import signing_pb2
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))  # another user may not be able to read this Python
with grpc.insecure_channel(f"unix:{sys.argv[1]}") as channel:
    order = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}")
    try:
        print(SigningServiceStub(channel).SignJwt(order, timeout=20).kid)
    except grpc.RpcError as error:
        print(error.code().name)
"""


@pytest.fixture
def config(tmp_path: Path, emulator: AwsEmulator) -> dict[str, Any]:
    config = document(tmp_path, emulator.endpoint)
    listeners = {"http": "127.0.0.1:0", "http_plaintext": True, "admin": "127.0.0.1:0"}
    config["server"] = {"grpc": f"unix:{tmp_path}/grpc.sock", **listeners}
    config["grants"][0]["caller"] = ME
    return config


@pytest.fixture
async def service(config: dict[str, Any]) -> AsyncIterator[Service]:
    async with running(config) as service:
        yield service


def path_of(service: Service) -> str:
    return service.app.addresses["grpc"].removeprefix("unix:")


async def sign_as(service: Service, uid: int, directory: Path) -> str:
    """Sign as another user, in a process of its own, and return the kid or the code of the error."""
    for one in (directory, *directory.parents):
        if one.owner() == "root" and not one.stat().st_mode & 0o001:
            one.chmod(0o711)
    os.chmod(path_of(service), 0o666)  # noqa: PTH101, S103
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, path_of(service), str(uid), stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    return output.decode().strip()


def other_users() -> None:
    if os.geteuid() != 0:
        tool_missing("root, to be another user")


async def test_f10_the_name_and_the_record_have_the_uid(service: Service) -> None:
    assert (await service.sign()).token
    (record,) = audit_records(service.document, "sign")
    assert record["caller"] == ME
    assert record["peer"] == f"unix:uid={os.geteuid()},pid={os.getpid()}"


@pytest.mark.parametrize("caller", ["local", f"unix:uid={OTHER}", "unix:uid=", "unix:", "dns:unix"])
async def test_f10_a_grant_for_another_name_permits_nothing(config: dict[str, Any], caller: str) -> None:
    config["grants"][0]["caller"] = caller
    async with running(config) as service:
        refused = await failure(service.sign())
        assert (refused.code, refused.reason) == ("PERMISSION_DENIED", "CALLER_NOT_PERMITTED")


async def test_f10_two_users_on_one_socket_are_two_callers(config: dict[str, Any], tmp_path: Path) -> None:
    other_users()
    config["grants"][0]["caller"] = f"unix:uid={OTHER}"
    async with running(config) as service:
        keys = await service.published()
        assert (await failure(service.sign())).reason == "CALLER_NOT_PERMITTED"
        assert await sign_as(service, OTHER, tmp_path) in keys
        assert await sign_as(service, OTHER + 1, tmp_path) == "PERMISSION_DENIED"
    callers = [(r.get("caller"), r["outcome"]) for r in audit_records(config, "sign")]
    assert callers == [(ME, "denied"), (f"unix:uid={OTHER}", "allowed"), (f"unix:uid={OTHER + 1}", "denied")]


async def test_f10_users_that_have_no_number_here_are_nobody(service: Service, tmp_path: Path) -> None:
    other_users()
    nobody = sockets._unknown_uid()
    assert await sign_as(service, nobody, tmp_path) == "UNAUTHENTICATED"


async def test_f10_calls_at_the_same_time_keep_their_callers(service: Service, tmp_path: Path) -> None:
    other_users()
    calls = [sign_as(service, OTHER + n % 2, tmp_path) for n in range(4)]
    own = [service.sign() for _ in range(50)]
    codes, tokens = await asyncio.gather(asyncio.gather(*calls), asyncio.gather(*own))
    assert set(codes) == {"PERMISSION_DENIED"}
    assert all(t.token for t in tokens)
    allowed = [r for r in audit_records(service.document, "sign") if r["outcome"] == "allowed"]
    assert {r["caller"] for r in allowed} == {ME}


@pytest.mark.parametrize("kind", ["directory", "file"])
async def test_f10_what_is_no_socket_is_not_replaced(config: dict[str, Any], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "grpc.sock"
    path.mkdir() if kind == "directory" else path.write_text("precious")
    with pytest.raises(ConfigurationError, match=r"server\.grpc: cannot listen"):
        await build(parse(config)).start()
    assert path.is_dir() or path.read_text() == "precious"


async def test_f10_nothing_is_left_behind(config: dict[str, Any], tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    async with running(config) as service:
        await service.sign()
    assert {n for n in os.listdir(tmp_path) if n.startswith("grpc")} == {"grpc.sock.lock"}  # noqa: PTH208
    assert len(os.listdir("/proc/self/fd")) <= before + 4  # noqa: PTH208
    async with running(config) as service:
        await service.sign()


async def test_f10_a_long_path_works(config: dict[str, Any], tmp_path: Path) -> None:
    directory = tmp_path / ("d" * max(1, 105 - len(str(tmp_path)) - 3))
    directory.mkdir()
    config["server"]["grpc"] = f"unix:{directory}/s"
    async with running(config) as service:
        assert (await service.sign()).token


async def test_f10_large_requests_and_answers_pass(service: Service) -> None:
    one = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json='{"a":"' + "x" * 4000 + '"}')
    batch = signing_pb2.BatchSignJwtRequest(requests=[one] * 256)
    answer = await service.signing.BatchSignJwt(batch, timeout=60)
    assert len(answer.results) == 256
    assert all(r.response.token for r in answer.results)


async def test_f02_f10_one_user_cannot_use_up_the_socket(config: dict[str, Any], tmp_path: Path) -> None:
    other_users()
    config["server"] |= {"max_connections": 60, "max_connections_per_address": 8}
    async with running(config) as service:
        await service.sign()
        with contextlib.ExitStack() as stack:
            opened = []
            for _ in range(40):
                one = stack.enter_context(socket.socket(socket.AF_UNIX))
                one.connect(path_of(service))
                one.settimeout(0)
                opened.append(one)

            async def refused() -> bool:
                return sum(_ended(one) for one in opened) >= 30

            await until(refused)
            assert await sign_as(service, OTHER, tmp_path) == "PERMISSION_DENIED"
            assert (await service.sign()).token


def _ended(one: socket.socket) -> bool:
    try:
        return one.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
