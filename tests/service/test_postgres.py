"""I12: the whole service on a real PostgreSQL that stops, comes back, and loses connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc

from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.postgres import PostgresServer
from support.document import document, issuer
from support.processes import BIN, write_config
from support.service import Service, failure, running, until

KILL = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'sealwright'"
SHORT: dict[str, Any] = {"timing": {"max_staleness": "3s", "refresh_interval": "100ms"}}


def on(directory: Path, url: str, emulator: AwsEmulator, name: str = "one", **tables: Any) -> dict[str, Any]:
    """Return the configuration of a host of its own."""
    (directory / name).mkdir(exist_ok=True)
    return document(directory / name, emulator.endpoint, **{"store": {"url": url}, **tables})


@contextlib.asynccontextmanager
async def two(directory: Path, url: str, emulator: AwsEmulator) -> AsyncIterator[tuple[Service, Service]]:
    async with running(on(directory, url, emulator)) as one, running(on(directory, url, emulator, "two")) as other:
        yield one, other


async def _equal(one: Service, other: Service) -> bool:
    """Tell whether both serve the same set. One may read a new standby a moment before the other."""
    answers = [await service.get("/payments/.well-known/jwks.json") for service in (one, other)]
    return answers[0][2] == answers[1][2] and answers[0][1]["ETag"] == answers[1][1]["ETag"]


async def test_i12_hosts_serve_the_same_bytes_and_follow_each_other(
    tmp_path: Path, url: str, emulator: AwsEmulator
) -> None:
    async with two(tmp_path, url, emulator) as (one, other):
        token = await one.sign()
        assert await other.verify(token.token)
        await one.revoke(token.kid)
        await until(lambda: _without(other, token.kid))
        await until(lambda: _equal(one, other))
        assert len({(await s.sign()).kid for s in (one, other)}) == 1


async def _without(service: Service, kid: str) -> bool:
    return kid not in await service.published()


async def test_i12_of_hosts_that_start_together_one_creates_the_keys(
    tmp_path: Path, url: str, emulator: AwsEmulator
) -> None:
    documents = [on(tmp_path, url, emulator, name) for name in ("one", "two", "three")]
    async with contextlib.AsyncExitStack() as stack:
        services = await asyncio.gather(*(stack.enter_async_context(running(d)) for d in documents))
        sets = [json.loads((await s.get("/payments/.well-known/jwks.json"))[2]) for s in services]
        assert sets[0] == sets[1] == sets[2]
        assert len(sets[0]["keys"]) == 2
    assert emulator.calls["CreateKey"] == 2


async def test_i12_a_database_that_is_down_stops_changes_at_once_and_signatures_after_max_staleness(
    tmp_path: Path, url: str, emulator: AwsEmulator, server: PostgresServer
) -> None:
    async with running(on(tmp_path, url, emulator, **SHORT)) as service:
        before = await service.get("/payments/.well-known/jwks.json")
        server.stop()
        try:
            assert (await service.sign()).token, "for max_staleness"
            refused = await failure(service.rotate())
            assert refused.code == "UNAVAILABLE"
            await until(lambda: _too_old(service))
            refused = await failure(service.rotate())
            assert (refused.code, refused.reason) == ("UNAVAILABLE", "STATE_TOO_OLD")
            during = await service.get("/payments/.well-known/jwks.json")
            assert (during[0], during[2]) == (200, before[2])
            assert (await service.get("/healthz"))[0] == 200
            assert (await service.get("/readyz/jwks"))[0] == 200
            assert (await service.get("/readyz"))[0] == 503
        finally:
            server.start()
        await until(lambda: _signs(service))
        assert (await service.get("/payments/.well-known/jwks.json"))[2] == before[2]
        assert (await service.revoke((await service.sign()).kid)).keys


async def _too_old(service: Service) -> bool:
    with contextlib.suppress(AssertionError):  # it signs still
        return (await failure(service.sign())).reason == "STATE_TOO_OLD"
    return False


async def _signs(service: Service) -> bool:
    with contextlib.suppress(grpc.aio.AioRpcError):
        return bool((await service.sign()).token)
    return False


async def test_i12_nobody_notices_connections_that_are_killed(
    tmp_path: Path, url: str, emulator: AwsEmulator, server: PostgresServer
) -> None:
    async with running(on(tmp_path, url, emulator, **SHORT)) as service:
        for _ in range(20):
            server.execute(KILL)
            await service.sign()
            assert await service.rotate(validate_only=True)
            await asyncio.sleep(0.05)
        assert (await service.revoke((await service.sign()).kid)).keys


def command(*words: str) -> tuple[int, dict[str, Any]]:
    done = subprocess.run(  # noqa: S603 - our own program
        [str(BIN / "sealwright"), *words, "--output", "json"], capture_output=True, text=True, timeout=60, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, json.loads(done.stdout)


def test_i12_the_commands_work_on_postgresql(tmp_path: Path, server: PostgresServer) -> None:
    server.clear("postgres")
    (tmp_path / "audit").mkdir()
    right = document(tmp_path, "http://127.0.0.1:9", issuer(), store={"url": server.url("postgres")})
    config = str(write_config(tmp_path, right))
    status, out = command("serve", "--config", config)
    assert (status, out["problems"]) == (1, ["store.url: the schema is out of date: run `sealwright db upgrade`"])
    for _ in range(2):
        assert command("db", "upgrade", "--config", config)[0] == 0
    assert command("config", "check", config)[0] == 0
    assert command("store", "check", "--config", config)[0] == 0
    status, out = command("store", "backup", "--config", config, str(tmp_path / "copy.db"))
    assert status == 1
    assert "pg_dump" in out["problems"][0]
    server.stop()
    try:
        for words in (["db", "upgrade"], ["store", "check"], ["serve"]):
            status, out = command(*words, "--config", config)
            assert status == 1
            assert "store.url: " in out["problems"][0]
    finally:
        server.start()


async def test_i12_a_store_moves_to_postgresql_and_verifiers_notice_nothing(
    tmp_path: Path, url: str, emulator: AwsEmulator
) -> None:
    old = document(tmp_path, emulator.endpoint)
    config = write_config(tmp_path, old)
    async with running(old) as service:
        before = await service.get("/payments/.well-known/jwks.json")
        token = await service.sign()
        status, out = await asyncio.to_thread(command, "store", "copy", "--config", config, url)
        assert (status, out["problems"][0].partition(",")[0]) == (1, "store.url: stop the service")
    status, out = await asyncio.to_thread(command, "store", "copy", "--config", config, url)
    assert (status, out["rows"]["keys"]) == (0, 2)
    status, out = await asyncio.to_thread(command, "store", "copy", "--config", config, url)
    assert (status, out["problems"]) == (1, ["target: it must be empty, but there is a store already"])
    status, out = await asyncio.to_thread(command, "store", "copy", "--config", config, "postgresql://u:hunter2@h/d")
    assert (status, "password" in out["problems"][0], "hunter2" in str(out)) == (1, True, False)
    async with running({**old, "store": {"url": url}}) as service:
        assert (await service.get("/payments/.well-known/jwks.json"))[2] == before[2]
        assert (await service.sign()).kid == token.kid
        await service.verify(token.token)
        await service.revoke(token.kid)
    async with running(old, wait=False) as service:  # the old one by mistake: it does not know of the revocation
        assert (await failure(service.sign())).reason == "STATE_TOO_OLD"
