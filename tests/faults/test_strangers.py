"""Kind A: strangers who open connections and then do nothing, little, or too much, on every listener."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import resource
import socket
import ssl
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import aiohttp
import grpc
import pytest

from faults.strangers import HALF, WHOLE, Door, answered, closed, connections, ended
from sealwright.app import build
from sealwright.config import parse
from sealwright.server.descriptors import limits
from sealwright.server.settings import ServerSettings
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from sealwright_testing.emulators.aws import AwsEmulator, ThreadedAwsEmulator
from support.document import document
from support.processes import BIN, process, write_config
from support.service import Service, running, until
from support.tls_files import Files

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
CLIENT_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
ORDER = SignJwtRequest(issuer="issuers/payments", claims_json="{}")


async def shed(service: Service, listener: str) -> float:
    _, _, body = await service.get("/metrics", at="admin")
    found = re.findall(
        rf'^sealwright_connections_shed_total{{listener="{listener}",reason="\w+"}} (\S+)', body.decode(), re.MULTILINE
    )
    return sum(map(float, found))


def get(address: str, path: str) -> bytes:
    with urllib.request.urlopen(f"http://{address}{path}", timeout=5) as answer:
        return bytes(answer.read())


@pytest.fixture
def threaded_emulator() -> Iterator[AwsEmulator]:
    with ThreadedAwsEmulator() as emulator:
        yield emulator


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[Service]:
    async with AwsEmulator() as emulator:
        config = document(tmp_path, emulator.endpoint)
        config["server"] |= {"max_connections": 48, "max_connections_per_address": 24}
        async with running(config) as service:
            yield service


@pytest.mark.parametrize("listener", ["http", "grpc"])
async def test_f02_a_thousand_half_requests_keep_nobody_away(
    tmp_path: Path, threaded_emulator: AwsEmulator, listener: str
) -> None:
    sent = {"http": HALF, "grpc": PREFACE[:9]}[listener]
    config = write_config(tmp_path, document(tmp_path, threaded_emulator.endpoint))
    few = ("/bin/sh", "-c", f'ulimit -n 1024; exec "$0" serve --config {config}', str(BIN / "sealwright"))
    with process(tmp_path, *few) as served:
        addresses = served.ready
        metrics = b""
        with connections(addresses[listener], 1100, sent):
            for _ in range(3):
                jwks = await asyncio.to_thread(get, addresses["http"], "/payments/.well-known/jwks.json")
                assert json.loads(jwks)["keys"]
                metrics = await asyncio.to_thread(get, addresses["admin"], "/metrics")
                async with grpc.aio.insecure_channel(addresses["grpc"], options=OWN_CONNECTION) as channel:
                    answer = await SigningServiceStub(channel).SignJwt(ORDER, wait_for_ready=True, timeout=20)
                assert answer.token
            assert f'sealwright_connections_shed_total{{listener="{listener}"' in metrics.decode()
        line = f"{listener}: connections of strangers were closed or refused"

        async def logged() -> bool:
            return line in served.log.read_text()

        await until(logged)
        assert served.log.read_text().count(line) == 1
        assert "Traceback" not in served.log.read_text()


@pytest.mark.parametrize("sent", [b"", HALF, b"P", WHOLE[:-2]])
async def test_f02_a_connection_must_complete_its_headers(door: Callable[..., Door], sent: bytes) -> None:
    strange = door()
    with connections(strange.address, 1, sent) as (one,):
        await strange.holds(1)
        await strange.later(9)
        assert not ended(one)
        with contextlib.suppress(OSError):
            one.sendall(b"a")  # one byte now and then gains nothing, after the first
        await strange.later(9)
        with contextlib.suppress(OSError):
            one.sendall(b"a")
        await strange.later(9)
        await closed([one])


async def test_f02_an_idle_connection_is_closed_and_a_used_one_is_not(door: Callable[..., Door]) -> None:
    strange = door()
    with connections(strange.address, 1, WHOLE) as (one,):
        await answered(one)
        for _ in range(5):
            await strange.later(70)
            assert not ended(one)
            one.sendall(WHOLE)
            await answered(one)
        await strange.later(74)
        assert not ended(one)
        await strange.later(2)
        await strange.holds(0)


@pytest.mark.parametrize("sent", [WHOLE.replace(b"healthz", b"large") * 400])
async def test_f02_a_client_that_does_not_read_is_closed(door: Callable[..., Door], sent: bytes) -> None:
    strange = door()
    with connections(strange.address, 1, sent):
        await strange.holds(1)
        await strange.later(19)
        await strange.later(19)
        await strange.later(19)
        await strange.holds(0)


async def test_f02_a_body_that_never_ends_is_not_waited_for(door: Callable[..., Door]) -> None:
    strange = door()
    post = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nabc"
    with connections(strange.address, 1, post):
        await strange.holds(1)
        for _ in range(4):
            await strange.later(76)
        await strange.holds(0)


async def test_f02_when_full_whoever_waits_longest_gives_way_and_a_running_request_does_not(
    door: Callable[..., Door],
) -> None:
    strange = door(total=10)
    with connections(strange.address, 1, WHOLE.replace(b"healthz", b"slow")) as (busy,):
        await strange.holds(1)
        await asyncio.sleep(0.05)
        with connections(strange.address, 9, HALF) as waiting:
            await strange.holds(10)
            with connections(strange.address, 5, WHOLE) as fresh:
                await closed(waiting[:5])
                await asyncio.sleep(0.1)
                assert [one.recv(15) for one in fresh] == [b"HTTP/1.1 200 OK"] * 5
                assert [ended(one) for one in waiting[5:]] == [False] * 4
        strange.release.set()
        await asyncio.sleep(0.1)
        assert busy.recv(15) == b"HTTP/1.1 200 OK"


async def test_f02_one_address_cannot_use_up_the_listener(door: Callable[..., Door]) -> None:
    strange = door(total=20, per_address=8)
    with (
        connections(strange.address, 4, HALF, source="127.0.0.2") as others,
        connections(strange.address, 100, HALF) as many,
    ):
        await closed(many, 92)
        await strange.holds(12)
        assert [ended(one) for one in others] == [False] * 4


async def test_f02_a_listener_without_descriptors_goes_on_later(door: Callable[..., Door]) -> None:
    strange = door()
    with connections(strange.address, 1, HALF):
        await strange.holds(1)
        host, _, port = strange.address.rpartition(":")
        with socket.socket() as one:
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, before[1]))
            try:
                one.connect((host, int(port)))
                one.sendall(WHOLE)
                await strange.holds(0)  # the oldest one gave way
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            one.settimeout(0)
            assert (await asyncio.wait_for(asyncio.get_running_loop().sock_recv(one, 15), 20)) == b"HTTP/1.1 200 OK"


@pytest.mark.parametrize("sent", [b"", CLIENT_HELLO, HALF])
async def test_f02_half_a_tls_handshake_is_closed(
    door: Callable[..., Door], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr("sealwright.server.connections.HANDSHAKE_SECONDS", 0.3)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    files = Files(tmp_path)
    context.load_cert_chain(files.settings.certificate, files.settings.private_key)
    strange = door(tls=context, total=4)
    with connections(strange.address, 3, sent) as some:
        await closed(some)
    with connections(strange.address, 20, sent):  # handshakes give way too
        client = ssl.create_default_context(cafile=files.settings.client_ca)
        async with aiohttp.ClientSession() as http:
            url = f"https://localhost:{strange.address.rpartition(':')[2]}/healthz"
            async with http.get(url, ssl=client) as answer:
                assert answer.status == 200


@pytest.mark.parametrize("listener", ["http", "grpc"])
async def test_f02_what_is_shed_is_counted(service: Service, listener: str) -> None:
    before = await shed(service, listener)
    with connections(service.app.addresses[listener], 40, HALF if listener == "http" else PREFACE[:5]):

        async def counted() -> bool:
            return await shed(service, listener) > before + 10

        await until(counted)
        assert (await service.sign()).token


async def test_f02_strangers_on_admin_do_not_keep_operators_away(service: Service) -> None:
    with connections(service.app.addresses["admin"], 200, HALF):
        status, _, _ = await service.get("/metrics", at="admin")
        assert status == 200


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("sent", [b"", PREFACE[:9], PREFACE, CLIENT_HELLO])
async def test_f02_half_a_grpc_connection_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: bytes, *, tls: bool
) -> None:
    monkeypatch.setattr("sealwright.server.connections.HANDSHAKE_SECONDS", 0.3)
    monkeypatch.setattr("sealwright.server.http2.lifetime.GREETING_SECONDS", 0.3)
    async with AwsEmulator() as emulator:
        config = document(tmp_path, emulator.endpoint)
        if tls:
            files = Files(tmp_path).settings.model_dump()
            config["server"] = {"grpc": "127.0.0.1:0", "http": "127.0.0.1:0", "admin": "127.0.0.1:0", "tls": files}
        app = build(parse(config))
        await app.start()
        try:
            with connections(app.addresses["grpc"], 3, sent) as some:
                await closed(some)
        finally:
            await app.stop()


@pytest.mark.parametrize("descriptors", [64, 256, 1024, 20_000])
def test_f02_descriptors_are_kept_back(descriptors: int) -> None:
    settings = ServerSettings(insecure_local=True, max_connections=16_000, max_connections_per_address=16_000)
    each = limits(settings, descriptors)
    assert sum(limit.total for limit in each.values()) <= descriptors * 2 / 3
    assert all(0 < limit.per_address <= limit.total for limit in each.values())


def test_f02_the_soft_limit_is_raised(tmp_path: Path, threaded_emulator: AwsEmulator) -> None:
    config = write_config(tmp_path, document(tmp_path, threaded_emulator.endpoint))
    few = ("/bin/sh", "-c", f'ulimit -S -n 256; exec "$0" serve --config {config}', str(BIN / "sealwright"))
    with process(tmp_path, *few) as served:
        soft, hard = resource.prlimit(served.popen.pid, resource.RLIMIT_NOFILE)
        assert soft == min(hard, 65_536)


def test_f02_the_unit_limits_descriptors_memory_and_tasks() -> None:
    unit = (Path(__file__).parents[2] / "deploy/systemd/sealwright.service").read_text()
    for setting in ("LimitNOFILE", "MemoryMax", "TasksMax"):
        assert re.search(rf"^{setting}=\d+", unit, re.MULTILINE), setting
