"""Kind B: the audit file, its directory and its disk in every state."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sealwright.v1.keys_pb2 import ListKeysRequest, RevokeKeysRequest, RotateKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from support.disks import fill, small_disk
from support.document import document
from support.processes import Process, process, write_config
from support.waiting import eventually

ORDER = SignJwtRequest(issuer="issuers/payments", claims_json="{}")
SECONDS = 30


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[str]:
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as running:
        yield running.ready["endpoint"]


@contextmanager
def served(directory: Path, kms: str, audit: Path, **settings: Any) -> Iterator[Process]:
    config = document(directory, kms, audit={"path": str(audit), **settings})
    with process(directory, "sealwright", "serve", "--config", write_config(directory, config)) as service:
        yield service


def sign(service: Process) -> str:
    """Return the token's kid, or the code of the error."""
    with grpc.insecure_channel(service.ready["grpc"]) as channel:
        try:
            return str(SigningServiceStub(channel).SignJwt(ORDER, timeout=10).kid)
        except grpc.RpcError as error:
            return str(error.code().name)


def readiness(service: Process) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://{service.ready['http']}/readyz") as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def serving(service: Process) -> bool:
    with grpc.insecure_channel(service.ready["grpc"]) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        return bool(stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1)


def records(directory: Path) -> list[dict[str, Any]]:
    lines = [line for f in directory.glob("*.jsonl*") for line in f.read_text().splitlines()]
    return sorted((json.loads(line) for line in lines), key=lambda r: r["sequence"])


def signed(directory: Path) -> int:
    return sum(r["event"] == "sign" and r["outcome"] == "allowed" for r in records(directory))


@pytest.mark.parametrize("how", ["renamed", "deleted", "replaced", "truncated"])
def test_f06_a_file_that_is_moved_is_opened_again_and_no_record_is_lost(tmp_path: Path, kms: str, how: str) -> None:
    audit = tmp_path / "audit"
    with served(tmp_path, kms, audit) as service:
        assert len(sign(service)) == 43
        file = next(audit.glob("*.jsonl"))
        match how:
            case "renamed":
                file.rename(file.with_suffix(".jsonl.1"))
            case "deleted":
                file.unlink()
            case "replaced":
                file.rename(file.with_suffix(".jsonl.1"))
                file.touch()
            case _:
                os.truncate(file, 0)
        for _ in range(3):
            assert len(sign(service)) == 43
        found = records(audit)
        assert sum(r["event"] == "sign" for r in found) == (3 if how in {"deleted", "truncated"} else 4)
        if how != "truncated":
            assert [r["event"] for r in found].count("audit_reopened") == 1
        numbers = [r["sequence"] for r in found]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert readiness(service)[0] == 200


def test_f08_a_directory_that_is_gone_stops_signing_and_health_says_so_until_it_is_back(
    tmp_path: Path, kms: str
) -> None:
    audit = tmp_path / "audit"
    with served(tmp_path, kms, audit) as service:
        assert len(sign(service)) == 43
        audit.rename(tmp_path / "elsewhere")
        assert sign(service) == "INTERNAL"
        eventually(lambda: readiness(service)[0] == 503, "f08: /readyz does not follow the audit")
        assert "audit" in readiness(service)[1]
        eventually(lambda: not serving(service), "f08: gRPC health does not follow the audit")
        (tmp_path / "elsewhere").rename(audit)
        eventually(lambda: readiness(service)[0] == 200, "readiness does not come back by itself")
        eventually(lambda: serving(service), "health does not come back by itself")
        assert len(sign(service)) == 43
        assert [r["event"] for r in records(audit)].count("audit_resumed") == 1


def test_f06_the_service_rotates_by_size_and_keeps_every_record(tmp_path: Path, kms: str) -> None:
    audit = tmp_path / "audit"
    with served(tmp_path, kms, audit, rotate_bytes=4096) as service:
        for _ in range(40):
            assert len(sign(service)) == 43
    assert len(list(audit.glob("*.jsonl"))) > 3
    assert all(f.stat().st_size < 8192 for f in audit.glob("*.jsonl"))
    assert signed(audit) == 40
    assert [r["sequence"] for r in records(audit)] == list(range(1, len(records(audit)) + 1))


def test_f07_f08_on_a_full_disk_nothing_is_signed_but_a_key_can_be_revoked(tmp_path: Path, kms: str) -> None:
    with small_disk(tmp_path / "disk", "2m") as disk, served(tmp_path, kms, disk / "audit") as service:
        active = sign(service)
        fill(disk / "filler")
        eventually(lambda: sign(service) == "INTERNAL", "tokens leave without records")
        eventually(lambda: readiness(service)[0] == 503, "/readyz does not follow the audit")
        with grpc.insecure_channel(service.ready["grpc"]) as channel:
            keys = KeyServiceStub(channel)
            name = f"issuers/payments/keys/{active}"
            done = keys.RevokeKeys(RevokeKeysRequest(name=name, reason="stolen"), timeout=20)
            assert [k.kid for k in done.keys] == [active]
        outcomes = [r["outcome"] for r in records(disk / "audit") if r["event"] == "revoke"]
        assert outcomes == ["begun", "allowed"]
        (disk / "filler").unlink()
        eventually(lambda: len(sign(service)) == 43, "signing does not come back by itself")
        eventually(lambda: readiness(service)[0] == 200, "readiness does not come back by itself")


def test_f07_refusals_of_one_caller_are_limited_and_counted(tmp_path: Path, kms: str) -> None:
    audit = tmp_path / "audit"
    with served(tmp_path, kms, audit, refusals_per_minute=5) as service:
        with grpc.insecure_channel(service.ready["grpc"]) as channel:
            keys = KeyServiceStub(channel)
            for _ in range(30):
                with pytest.raises(grpc.RpcError):
                    keys.RotateKeys(RotateKeysRequest(issuer="issuers/nobody", series="\x01" * 1_900_000), timeout=5)
            keys.ListKeys(ListKeysRequest(parent="issuers/payments"), timeout=5)
        refused = [r for r in records(audit) if r.get("outcome") in {"denied", "failed"}]
        assert len(refused) == 5
        assert sum(f.stat().st_size for f in audit.glob("*.jsonl")) < 20_000
        with urllib.request.urlopen(f"http://{service.ready['admin']}/metrics") as answer:
            assert "sealwright_refusals_omitted_total 25.0" in answer.read().decode()
        assert len(sign(service)) == 43
