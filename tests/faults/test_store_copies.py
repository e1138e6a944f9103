"""F15, F53: a store that is lost, older, foreign, replaced or read-only never makes a second JWK Set."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from sealwright.app import build
from sealwright.config import parse
from sealwright.keys.ports import StoreUnavailableError
from sealwright.v1 import signing_pb2, signing_pb2_grpc
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import QUICK_TIMING, document, issuer, quick_issuer, tool_missing
from support.processes import BIN, process, write_config
from support.service import Service, failure, running, until

SET = "/payments/.well-known/jwks.json"


@pytest.fixture
async def emulator() -> Any:
    async with AwsEmulator() as running_emulator:
        yield running_emulator


def quick(directory: Path, emulator: AwsEmulator) -> dict[str, Any]:
    return document(directory, emulator.endpoint, quick_issuer(), timing=QUICK_TIMING)


def command(config: dict[str, Any], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run `sealwright store …` in the directory of the store."""
    directory = Path(config["audit"]["path"]).parent
    name, *more = arguments
    run = subprocess.run(  # noqa: S603 - our own program
        [BIN / "sealwright", "store", name, "--config", write_config(directory, config), "--output", "json", *more],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert not run.stderr, run.stderr
    return run.returncode, json.loads(run.stdout)


async def in_thread(config: dict[str, Any], *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the command while the service and the emulator go on in this process."""
    return await asyncio.to_thread(command, config, *arguments)


def files(config: dict[str, Any]) -> Iterator[Path]:
    yield from Path(config["audit"]["path"]).parent.glob("state.db*")


def remove(config: dict[str, Any]) -> None:
    for file in list(files(config)):
        file.unlink()


def put_back(config: dict[str, Any], copy: Path) -> None:
    remove(config)
    shutil.copyfile(copy, Path(config["audit"]["path"]).parent / "state.db")


async def rotated(service: Service) -> None:
    """Rotate by hand as soon as that is possible."""

    async def done() -> bool:
        try:
            await service.rotate()
        except Exception:  # noqa: BLE001 - too early
            return False
        return True

    await until(done)


async def assert_refused(service: Service, why: str) -> None:
    """Nothing is signed, published or changed, and each of them says why."""
    refused = await failure(service.sign())
    assert (refused.code, refused.reason) == ("UNAVAILABLE", "STATE_TOO_OLD")
    assert why in refused.message
    assert why in (await failure(service.rotate())).message
    status, headers, _ = await service.get(SET)
    assert (status, headers["Cache-Control"]) == (503, "no-store")
    status, _, body = await service.get("/readyz")
    assert status == 503
    assert why in body.decode()
    assert (await service.get("/readyz/jwks"))[0] == 503
    assert (await service.get("/healthz"))[0] == 200


async def able(service: Service) -> bool:
    return (await service.get("/readyz"))[0] == 200


async def test_f15_an_older_copy_waits_for_an_operator_and_keeps_what_was_revoked_and_retired(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    config = quick(tmp_path, emulator)
    copy = tmp_path / "copy.db"
    async with running(config) as service:
        first = (await service.sign()).kid
        status, made = await in_thread(config, "backup", str(copy))
        assert (status, made["keys"]) == (0, 2)
        assert copy.stat().st_mode & 0o777 == 0o600
        await rotated(service)
        second = (await service.sign()).kid
        await rotated(service)
        third = (await service.sign()).kid
        assert len({first, second, third}) == 3
        await service.revoke(first)
    put_back(config, copy)
    async with running(config, wait=False) as service:
        await assert_refused(service, "older copy")
        status, checked = await in_thread(config, "check")
        assert status == 1
        assert "older copy" in checked["problems"][0]
        assert any(f"key {first} was revoked" in p for p in checked["problems"])
        assert any(f"key {third} was queued, and is missing" in p for p in checked["problems"])
        status, accepted = await in_thread(config, "accept")
        assert (status, accepted["accepted"]) == (0, True)
        assert any(f"key {third} is lost" in n for n in accepted["notes"])
        await until(lambda: able(service))
        assert first not in await service.published()
        signed = await service.sign()
        assert signed.kid not in {first, second, third}
        await service.verify(signed.token)
        assert second in await service.published(), "it was retired, and some of its tokens may live"
        assert (await in_thread(config, "check"))[0] == 0
        status, again = await in_thread(config, "accept")
        assert (status, again["accepted"]) == (0, False)


async def test_f15_a_key_that_the_kms_has_disabled_is_not_published_after_an_acceptance(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    """The witness is as old as the copy, except for one key: what else was revoked, only the KMS knows."""
    config = quick(tmp_path, emulator)
    copy, witness = tmp_path / "copy.db", tmp_path / "audit" / "store-witness.json"
    async with running(config) as service:
        await in_thread(config, "backup", str(copy))
        known = witness.read_bytes()
        first = (await service.sign()).kid
        await service.revoke(first)
    put_back(config, copy)
    older = json.loads(known)
    witness.write_text(json.dumps({**older, "revision": older["revision"] + 1000}))
    async with running(config, wait=False) as service:
        await assert_refused(service, "older copy")
        emulator.add_fault("error", operation="DescribeKey", type="KMSInternalException", status=500)
        status, refused = await in_thread(config, "accept")
        assert status == 1
        assert "--without-kms" in refused["problems"][0]
        emulator.clear_faults()
        status, accepted = await in_thread(config, "accept")
        assert status == 0
        assert any(first in n and "disabled in the KMS" in n for n in accepted["notes"])
        await until(lambda: able(service))
        assert first not in await service.published()


@pytest.mark.parametrize("how", ["deleted", "emptied", "another deployment's"])
async def test_f53_a_store_without_the_published_keys_makes_no_second_set(
    tmp_path: Path, emulator: AwsEmulator, how: str
) -> None:
    config = quick(tmp_path, emulator)
    other = tmp_path / "other"
    other.mkdir()
    async with running(quick(other, emulator)) as service:
        await service.sign()
    async with running(config) as service:
        before = set(await service.published())
    remove(config)
    if how == "emptied":
        (tmp_path / "state.db").touch()
    if how == "another deployment's":
        put_back(config, other / "state.db")
    created = len(emulator.keys)
    why = "another deployment" if how == "another deployment's" else "the store is empty"
    async with running(config, wait=False) as service:
        await assert_refused(service, why)
        assert len(emulator.keys) == created, "no key was made for a store that nobody has accepted"
        status, accepted = await in_thread(config, "accept")
        assert status == 0
        assert sum("is lost" in n for n in accepted["notes"]) == 2

        async def publishes() -> bool:
            return (await service.get(SET))[0] == 200

        await until(publishes)
        assert not before & set(await service.published())
        # Verifiers hold a set without the new keys, so these wait for their lead.
        assert (await failure(service.sign())).reason == "NO_ACTIVE_KEY"
        await until(lambda: able(service))
        await service.verify((await service.sign()).token)


def _older(config: dict[str, Any], copy: Path) -> None:
    with sqlite3.connect(copy) as source, sqlite3.connect(Path(config["audit"]["path"]).parent / "state.db") as live:
        source.backup(live)


def _forgotten(config: dict[str, Any], _copy: Path) -> None:
    with sqlite3.connect(Path(config["audit"]["path"]).parent / "state.db") as live:
        live.execute("UPDATE keys SET revoke_time = NULL")
        live.execute("UPDATE issuers SET revision = revision + 1")
        live.execute("UPDATE deployment SET revision = revision + 1")


@pytest.mark.parametrize("change", [_older, _forgotten])
async def test_f53_a_running_service_does_not_go_back_with_its_store(
    tmp_path: Path, emulator: AwsEmulator, change: Callable[[dict[str, Any], Path], None]
) -> None:
    config = document(tmp_path, emulator.endpoint)
    copy = tmp_path / "copy.db"
    async with running(config) as service:
        first = (await service.sign()).kid
        await in_thread(config, "backup", str(copy))
        await service.revoke(first)
        good = await service.published()
        change(config, copy)

        async def refused() -> bool:
            return (await failure(service.rotate())).reason == "STATE_TOO_OLD"

        await until(refused)
        assert await service.published() == good
        assert (await service.sign()).kid in good
    async with running(config, wait=False) as service:
        await assert_refused(service, "copy")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 2}', b"\xff\xfe", b"[" * 100_000])
async def test_f53_a_damaged_witness_waits_for_an_operator(
    tmp_path: Path, emulator: AwsEmulator, content: bytes
) -> None:
    config = document(tmp_path, emulator.endpoint)
    async with running(config) as service:
        before = await service.published()
    (tmp_path / "audit" / "store-witness.json").write_bytes(content)
    async with running(config, wait=False) as service:
        await assert_refused(service, "witness of the store cannot be read")
        assert (await in_thread(config, "check"))[0] == 1
        assert (await in_thread(config, "accept"))[0] == 0
        await until(lambda: able(service))
        assert await service.published() == before


async def test_f53_a_witness_that_is_missing_is_made_again(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint)
    witness = tmp_path / "audit" / "store-witness.json"
    async with running(config):
        witness.unlink()

        async def there() -> bool:
            return witness.exists()

        await until(there)
        assert (await in_thread(config, "check"))[0] == 0


async def test_f53_the_database_file_alone_has_the_keys(tmp_path: Path, emulator: AwsEmulator) -> None:
    """Whoever copies or restores state.db without its -wal has every key, because each change ends with a checkpoint."""
    config = document(tmp_path, emulator.endpoint)
    async with running(config) as service:
        expected = await service.published()
        shutil.copyfile(tmp_path / "state.db", tmp_path / "alone.db")
        with sqlite3.connect(tmp_path / "alone.db") as alone:
            assert {kid for (kid,) in alone.execute("SELECT kid FROM keys")} == set(expected)
        signed = await service.sign()
        await service.revoke(signed.kid)
        shutil.copyfile(tmp_path / "state.db", tmp_path / "alone.db")
        with sqlite3.connect(tmp_path / "alone.db") as alone:
            query = "SELECT kid FROM keys WHERE revoke_time IS NOT NULL"
            assert [kid for (kid,) in alone.execute(query)] == [signed.kid]


async def test_f15_a_backup_is_whole_while_keys_change_and_never_replaces_a_file(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    issuers = [issuer(f"issuer-{n}") for n in range(8)]
    config = document(tmp_path, emulator.endpoint, *issuers)
    async with running(config, wait=False) as service:
        target = tmp_path
        for n in range(4):
            target = tmp_path / f"copy {n}?.db"
            status, made = await in_thread(config, "backup", str(target))
            assert status == 0
            with sqlite3.connect(target) as copy:
                assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                assert copy.execute("SELECT count(*) FROM keys").fetchone() == (made["keys"],)
        status, refused = await in_thread(config, "backup", str(target))
        assert status == 1
        assert "File exists" in refused["problems"][0]
        await until(lambda: able(service))
    assert not partial_files(tmp_path)


def partial_files(directory: Path) -> list[Path]:
    return list(directory.glob("*.partial"))


async def test_f53_check_and_backup_make_no_store(tmp_path: Path, emulator: AwsEmulator) -> None:
    config = document(tmp_path, emulator.endpoint)
    for arguments in (["check"], ["backup", str(tmp_path / "copy.db")]):
        status, answer = command(config, *arguments)
        assert (status, answer["problems"]) == (1, ["store.url: there is no store"])
    assert not list(files(config))
    assert not (tmp_path / "copy.db").exists()


async def test_f53_a_read_only_store_is_an_error_of_the_start_and_of_the_check(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    if os.geteuid() != 0:
        tool_missing("root, to mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    config = document(tmp_path, emulator.endpoint)
    config["store"]["url"] = f"sqlite:///{disk}/state.db"
    async with running(config) as service:
        good = await service.published()
    mount("--bind", str(disk), str(disk))
    try:
        mount("-o", "remount,ro,bind", str(disk))
        with pytest.raises(StoreUnavailableError, match="read-only"):
            await build(parse(config)).start()
        status, checked = await in_thread(config, "check")
        assert status == 1
        assert "read-only" in checked["problems"][0]
    finally:
        mount("-u", str(disk))
    async with running(config) as service:
        assert await service.published() == good


def mount(*arguments: str) -> None:
    """Mount in a directory of our own; `-u`: unmount."""
    command_line = ["umount", arguments[1]] if arguments[0] == "-u" else ["mount", *arguments]
    subprocess.run(command_line, check=True)  # noqa: S603 - see above


def verified(addresses: dict[str, str], channel: grpc.Channel) -> bool | None:
    """Sign a token and verify it with a set that a verifier fetches now; None: it is not signed, or no set is served."""
    stub = signing_pb2_grpc.SigningServiceStub(channel)
    try:
        token = stub.SignJwt(signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}"), timeout=5).token
        with urllib.request.urlopen(f"http://{addresses['http']}{SET}", timeout=5) as answer:
            keys = jwt.PyJWKSet.from_dict(json.load(answer)).keys
    except (grpc.RpcError, OSError):
        return None
    return jwt.get_unverified_header(token)["kid"] in {k.key_id for k in keys}


def test_f53_workers_that_restart_without_their_store_never_serve_a_second_set(tmp_path: Path) -> None:
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as kms:
        config = document(tmp_path, kms.ready["endpoint"])
        config["server"]["workers"] = 2
        with process(tmp_path, "sealwright", "serve", "--config", write_config(tmp_path, config)) as service:
            known = len(list((tmp_path / "audit").glob("*.jsonl")))
            outcomes = []
            remove(config)
            os.kill(workers(service.popen.pid)[0], signal.SIGKILL)
            end = time.monotonic() + 60
            while len(list((tmp_path / "audit").glob("*.jsonl"))) == known and time.monotonic() < end:
                time.sleep(0.05)
            while None not in outcomes and time.monotonic() < end:
                with grpc.insecure_channel(service.ready["grpc"]) as channel:
                    outcomes.append(verified(service.ready, channel))
            for _ in range(60):
                with grpc.insecure_channel(service.ready["grpc"]) as channel:
                    outcomes.append(verified(service.ready, channel))
            assert False not in outcomes
            assert None in outcomes, "the new worker refused its store"
            assert "the store is empty" in service.log.read_text()


def workers(supervisor: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()]
