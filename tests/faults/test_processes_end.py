"""Kind E: processes that die, hang or are started twice."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from support.document import document, issuer
from support.processes import Process, pause, process, write_config
from support.waiting import eventually

ORDER = SignJwtRequest(issuer="issuers/payments", claims_json="{}")
SECONDS = 60


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[str]:
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as running:
        yield running.ready["endpoint"]


def served(directory: Path, kms: str, workers: int = 2, issuers: int = 1, **server: Any) -> str:
    names = ["payments", *(f"other-{n}" for n in range(issuers - 1))]
    config = document(directory, kms, *(issuer(name) for name in names))
    config["server"] |= {"workers": workers, **server}
    return write_config(directory, config)


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(c) for c in found.read_text().split()] if found.exists() else []


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def signs(address: str) -> bool:
    with grpc.insecure_channel(address) as channel, contextlib.suppress(grpc.RpcError):
        return bool(SigningServiceStub(channel).SignJwt(ORDER, timeout=10).token)
    return False


def fixed_ports(first: Process) -> dict[str, Any]:
    return {name: first.ready[name] for name in ("grpc", "http", "admin")}


def test_f30_workers_end_with_their_supervisor_and_a_restart_works(tmp_path: Path, kms: str) -> None:
    with process(tmp_path, "sealwright", "serve", "--config", served(tmp_path, kms)) as first:
        workers = children(first.popen.pid)
        assert len(workers) == 2
        config = served(tmp_path, kms, **fixed_ports(first))
        first.signal(signal.SIGKILL)
        first.wait()
        with process(tmp_path, "sealwright", "serve", "--config", config) as second:
            eventually(lambda: not any(alive(w) for w in workers), "workers of a dead supervisor go on")
            assert signs(second.ready["grpc"])
            assert not set(children(second.popen.pid)) & set(workers)


def test_f58_a_worker_that_hangs_is_replaced(tmp_path: Path, kms: str) -> None:
    with process(tmp_path, "sealwright", "serve", "--config", served(tmp_path, kms)) as service:
        victim = children(service.popen.pid)[0]
        time.sleep(2)  # it has shown that it runs
        pause(victim)
        eventually(lambda: not alive(victim), "the worker that hangs was not killed")
        eventually(lambda: len([c for c in children(service.popen.pid) if alive(c)]) == 2, "it was not replaced")
        assert f"worker {victim} has not answered" in service.log.read_text()
        for _ in range(10):
            eventually(lambda: signs(service.ready["grpc"]), "a caller meets nobody")


def test_f57_a_large_configuration_reaches_the_workers_and_a_stopped_one_blocks_nothing(
    tmp_path: Path, kms: str
) -> None:
    config = served(tmp_path, kms, issuers=600)
    assert Path(config).stat().st_size > 65536
    with process(tmp_path, "sealwright", "serve", "--config", config, wait=False) as service:
        eventually(lambda: len(children(service.popen.pid)) == 2, "no workers")
        for worker in children(service.popen.pid):
            pause(worker)
        service.signal(signal.SIGTERM)
        for worker in children(service.popen.pid):
            os.kill(worker, signal.SIGKILL)
        assert service.wait(20) in {0, 1}


def test_f31_sighup_drops_no_call_and_sigusr1_is_ignored(tmp_path: Path, kms: str) -> None:
    with process(tmp_path, "sealwright", "serve", "--config", served(tmp_path, kms)) as service:
        workers = children(service.popen.pid)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            service.signal(number)
            for worker in workers:
                os.kill(worker, number)
            assert signs(service.ready["grpc"])
        assert children(service.popen.pid) == workers
