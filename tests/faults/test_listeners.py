"""Kind E: addresses that several services want, and strangers who send anything."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright.app import build
from sealwright.config import parse
from sealwright.errors import ConfigurationError
from sealwright.server.http.hosts import is_loopback
from sealwright.server.socket_file import SocketFile
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document
from support.service import running
from support.tls_files import Files

ORDER = SignJwtRequest(issuer="issuers/payments", claims_json="{}")


@pytest.fixture
async def emulator() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as emulator:
        yield emulator


def on_socket(directory: Path, emulator: AwsEmulator, name: str) -> dict[str, Any]:
    """Return the configuration of a service of its own on a socket that it shares with others."""
    own = directory / name
    own.mkdir(exist_ok=True)
    config = document(own, emulator.endpoint)
    config["server"] = {
        "grpc": f"unix:{directory}/grpc.sock",
        "http": "127.0.0.1:0",
        "http_plaintext": True,
        "admin": "127.0.0.1:0",
    }
    config["grants"][0]["caller"] = f"unix:uid={os.geteuid()}"
    return config


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SocketFile.take, "__defaults__", (0.2,))


@pytest.mark.usefixtures("impatient")
async def test_f28_the_second_service_on_a_unix_socket_is_refused_and_the_first_goes_on(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    path = tmp_path / "grpc.sock"
    async with running(on_socket(tmp_path, emulator, "first")) as first:
        made = path.stat()
        with pytest.raises(ConfigurationError, match=r"server\.grpc: cannot listen on .*: Address already in use"):
            await build(parse(on_socket(tmp_path, emulator, "second"))).start()
        assert path.stat().st_ino == made.st_ino
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            assert (await SigningServiceStub(channel).SignJwt(ORDER, timeout=5)).token
        assert (await first.sign()).token
    assert not path.exists()
    lock = tmp_path / "grpc.sock.lock"
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600
    async with running(on_socket(tmp_path, emulator, "second")) as second:
        assert (await second.sign()).token


@pytest.mark.usefixtures("impatient")
async def test_f28_a_socket_that_answers_is_not_taken_even_without_a_lock(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    path = tmp_path / "grpc.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(0)
        made = path.stat()
        for _ in range(3):  # the last ones find a full backlog
            with pytest.raises(ConfigurationError, match="Address already in use"):
                await build(parse(on_socket(tmp_path, emulator, "service"))).start()
        assert path.stat().st_ino == made.st_ino
    async with running(on_socket(tmp_path, emulator, "service")) as service:
        assert (await service.sign()).token


async def test_f28_a_service_that_starts_while_the_old_one_ends_gets_the_socket(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    path = tmp_path / "grpc.sock"
    old = build(parse(on_socket(tmp_path, emulator, "one")))
    await old.start()
    fresh = build(parse(on_socket(tmp_path, emulator, "one")))
    starting = asyncio.create_task(fresh.start())
    await asyncio.sleep(0.2)
    await old.stop()
    await starting
    try:
        await fresh.wait_until_useful()
        await asyncio.sleep(0.5)
        assert path.exists()
        async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
            assert (await SigningServiceStub(channel).SignJwt(ORDER, timeout=5)).token
    finally:
        await fresh.stop()


def test_f28_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    path = str(tmp_path / "grpc.sock")
    code = (
        "import asyncio, sys, time\n"
        "from sealwright.server.socket_file import SocketFile\n"
        f"asyncio.run(SocketFile({path!r}).take())\n"
        "print('taken', flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:  # noqa: S603 - our own
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        with pytest.raises(OSError, match="already in use"):
            asyncio.run(SocketFile(path).take(0.2))
        holder.send_signal(signal.SIGKILL)
        holder.wait(10)
    asyncio.run(SocketFile(path).take())


async def test_f28_a_lock_file_that_is_a_link_is_not_followed(tmp_path: Path, emulator: AwsEmulator) -> None:
    target = tmp_path / "target"
    (tmp_path / "grpc.sock.lock").symlink_to(target)
    with pytest.raises(ConfigurationError, match=r"server\.grpc: cannot listen"):
        await build(parse(on_socket(tmp_path, emulator, "service"))).start()
    assert not target.exists()


async def test_f28_a_file_that_is_not_a_socket_is_left_alone(tmp_path: Path, emulator: AwsEmulator) -> None:
    (tmp_path / "grpc.sock").write_text("precious")
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"server\.grpc: cannot listen"):
            await build(parse(on_socket(tmp_path, emulator, "service"))).start()
    assert (tmp_path / "grpc.sock").read_text() == "precious"


needs_ipv6 = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
@pytest.mark.parametrize("any_address", ["[::]:0", "[0:0::0]:0"])
async def test_f29_every_address_means_both_families_on_grpc_and_http(
    tmp_path: Path, emulator: AwsEmulator, any_address: str
) -> None:
    tls = Files(tmp_path).settings.model_dump()
    config = document(tmp_path, emulator.endpoint)
    config["server"] = {
        "grpc": any_address,
        "http": any_address,
        "http_plaintext": True,
        "admin": "127.0.0.1:0",
        "tls": tls,
    }
    async with running(config, wait=False) as service:
        for listener in ("grpc", "http"):
            where = service.app.addresses[listener].rpartition(":")[2]
            for host in ("127.0.0.1", "::1"):
                _, writer = await asyncio.open_connection(host, int(where))
                writer.close()
        for host in ("127.0.0.1", "[::1]"):
            port = service.app.addresses["http"].rpartition(":")[2]
            async with service.http.get(f"http://{host}:{port}/healthz") as answer:
                assert answer.status == 200


@needs_ipv6
async def test_f29_an_address_that_is_in_use_is_refused_on_either_family(tmp_path: Path, emulator: AwsEmulator) -> None:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((host, 0), family=family) as taken:
            config = document(tmp_path, emulator.endpoint)
            config["server"] = {
                "grpc": f"unix:{tmp_path}/grpc.sock",
                "http": f"[::]:{taken.getsockname()[1]}",
                "http_plaintext": True,
                "admin": "127.0.0.1:0",
            }
            with pytest.raises(ConfigurationError, match=r"server\.http: cannot listen on .*: Address already in use"):
                await build(parse(config)).start()


GOOD_HOSTS = [
    "127.0.0.1",
    "127.0.0.1:9090",
    "127.9.9.9:1",
    "localhost",
    "LocalHost:80",
    "localhost.:9090",
    "[::1]",
    "[::1]:9090",
]
BAD_HOSTS = [
    "",
    "evil.example",
    "evil.example:9090",
    "localhost.evil.example",
    "evil-localhost",
    "127.0.0.1.evil.example:9090",
    "0.0.0.0:9090",
    "[::]",
    "10.0.0.1",
    "localhost:",
    "localhost:x",
    "localhost, evil.example",
    "user@localhost",
    "::1",
    "2130706433",
    "localhost/",
    "localhost\u00e9",
]


def test_f42_hosts_of_loopback_are_told_from_others() -> None:
    assert [h for h in GOOD_HOSTS if not is_loopback(h)] == []
    assert [h for h in BAD_HOSTS if is_loopback(h)] == []


async def status_of(address: str, head: str) -> str:
    """Return the status of the answer to `GET /metrics` with some lines."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"{head}Connection: close\r\n\r\n".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    status, _, body = answer.partition(b"\r\n")
    assert (b"sealwright_keys" in body) == (b" 200 " in status)
    return status.split()[1].decode()


async def test_f42_the_admin_listener_answers_only_hosts_of_loopback(tmp_path: Path, emulator: AwsEmulator) -> None:
    async with running(document(tmp_path, emulator.endpoint), wait=False) as service:
        admin = service.app.addresses["admin"]
        start = "GET /metrics HTTP/1.1\r\n"
        for host in GOOD_HOSTS:
            assert await status_of(admin, f"{start}Host: {host}\r\n") == "200", host
        for host in BAD_HOSTS:
            assert await status_of(admin, f"{start}Host: {host}\r\n") in {"400", "421"}, host
        assert await status_of(admin, f"{start}Host: evil.example\r\n") == "421"
        assert await status_of(admin, f"{start}Host: localhost\r\nHost: evil.example\r\n") in {"400", "421"}
        assert await status_of(admin, start) == "400"
        assert await status_of(admin, "GET /metrics HTTP/1.0\r\n") == "200"
        status, _, _ = await service.get("/healthz", Host="id.example.com")
        assert status == 200, "the public listener has any name"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes_of(directory: Path) -> dict[str, int]:
    return {f.name: mode_of(f) for f in directory.glob("state.db*")}


async def test_f42_the_store_is_readable_by_its_owner_alone(tmp_path: Path, emulator: AwsEmulator) -> None:
    directory = mode_of(tmp_path)
    before = os.umask(0)
    try:
        async with running(document(tmp_path, emulator.endpoint)):
            modes = modes_of(tmp_path)
    finally:
        os.umask(before)
    assert modes == dict.fromkeys(("state.db", "state.db-wal", "state.db-shm"), 0o600)
    assert mode_of(tmp_path) == directory


async def test_f42_the_mode_of_a_store_that_exists_stays(tmp_path: Path, emulator: AwsEmulator) -> None:
    store = tmp_path / "state.db"
    store.touch()
    store.chmod(0o640)
    async with running(document(tmp_path, emulator.endpoint)):
        modes = modes_of(tmp_path)
    assert set(modes.values()) == {0o640}


async def test_f42_a_link_to_a_store_that_does_not_exist_yet_is_followed(tmp_path: Path, emulator: AwsEmulator) -> None:
    (tmp_path / "state.db").symlink_to(tmp_path / "elsewhere.db")
    before = os.umask(0)
    try:
        async with running(document(tmp_path, emulator.endpoint)):
            assert mode_of(tmp_path / "elsewhere.db") == 0o600
    finally:
        os.umask(before)
