"""The commands as processes: start, workers, signals, crashes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from sealwright.v1.keys_pb2 import ListKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from support.document import document, issuer
from support.processes import Process, control, process, write_config
from support.waiting import eventually

ORDER = SignJwtRequest(issuer="issuers/payments", claims_json="{}")


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[str]:
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as running:
        yield running.ready["endpoint"]


def fetch(address: str, path: str = "/payments/.well-known/jwks.json") -> bytes:
    with urllib.request.urlopen(f"http://{address}{path}") as answer:
        return bytes(answer.read())


def test_c135_sigterm_lets_accepted_calls_end_and_refuses_new_ones(tmp_path: Path, kms: str) -> None:
    config = write_config(tmp_path, document(tmp_path, kms))
    with process(tmp_path, "sealwright", "serve", "--config", config) as service:
        control(kms, "faults", {"operation": "Sign", "kind": "delay", "seconds": 0.8})
        with grpc.insecure_channel(service.ready["grpc"]) as channel, ThreadPoolExecutor(20) as threads:
            stub = SigningServiceStub(channel)
            calls = [threads.submit(stub.SignJwt, ORDER, timeout=10) for _ in range(20)]
            time.sleep(0.4)
            service.signal(signal.SIGTERM)
            time.sleep(0.1)
            with pytest.raises(grpc.RpcError) as refused:
                stub.SignJwt(ORDER, timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert len({call.result().token for call in calls}) == 20
        assert service.wait() == 0


def test_a_caller_that_retries_as_documented_loses_nothing_over_a_restart(tmp_path: Path, kms: str) -> None:
    config = write_config(tmp_path, document(tmp_path, kms) | {})
    retrying = {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 5,
                    "initialBackoff": "0.05s",
                    "maxBackoff": "0.5s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
                },
            },
        ],
    }
    with (
        process(tmp_path, "sealwright", "serve", "--config", config) as old,
        process(tmp_path, "sealwright", "serve", "--config", config) as new,
        grpc.insecure_channel(
            f"ipv4:{old.ready['grpc']},{new.ready['grpc']}",
            options=[("grpc.service_config", json.dumps(retrying | {"loadBalancingConfig": [{"round_robin": {}}]}))],
        ) as channel,
    ):
        stub = SigningServiceStub(channel)
        stop = threading.Event()
        done: list[str] = []
        failed: list[Any] = []

        def load() -> None:
            while not stop.is_set():
                try:
                    done.append(stub.SignJwt(ORDER, timeout=10).token)
                except grpc.RpcError as error:
                    failed.append(error)

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        old.signal(signal.SIGTERM)
        assert old.wait() == 0
        time.sleep(0.3)
        stop.set()
        for thread in threads:
            thread.join()
        assert failed == []
        assert len(done) > 50


def test_workers_share_the_ports_and_one_that_crashes_is_restarted(tmp_path: Path, kms: str) -> None:
    config = document(tmp_path, kms)
    config["server"]["workers"] = 2
    with process(tmp_path, "sealwright", "serve", "--config", write_config(tmp_path, config)) as service:
        workers = _children(service.popen.pid)
        assert len(workers) == 2
        assert _tokens(service, 20) == 20
        os.kill(workers[0], signal.SIGKILL)
        eventually(lambda: len(_children(service.popen.pid)) == 2 and workers[0] not in _children(service.popen.pid))
        eventually(lambda: len(list((tmp_path / "audit").glob("*.jsonl"))) == 3)
        eventually(lambda: _tokens(service, 5) == 5)
        kids = {k["kid"] for k in json.loads(fetch(service.ready["http"]))["keys"]}
        assert len(kids) == 2
        service.signal(signal.SIGTERM)
        assert service.wait() == 0


def test_metrics_are_those_of_all_workers_together(tmp_path: Path, kms: str) -> None:
    config = document(tmp_path, kms)
    config["server"]["workers"] = 2
    with process(tmp_path, "sealwright", "serve", "--config", write_config(tmp_path, config)) as service:
        assert _tokens(service, 30) == 30
        eventually(lambda: _counted(service) == 30)  # workers hand over what they count a few milliseconds later
        assert {_counted(service) for _ in range(10)} == {30}


def test_c102_replicas_that_start_together_make_one_set(tmp_path: Path, kms: str) -> None:
    config = document(tmp_path, kms, issuer("payments"), issuer("logins", "RS256"))
    config["server"]["workers"] = 3
    with process(tmp_path, "sealwright", "serve", "--config", write_config(tmp_path, config)) as service:
        with grpc.insecure_channel(service.ready["grpc"]) as channel:
            keys = KeyServiceStub(channel)
            assert len(keys.ListKeys(ListKeysRequest(parent="issuers/payments")).keys) == 2
            assert len(keys.ListKeys(ListKeysRequest(parent="issuers/logins")).keys) == 2
        with urllib.request.urlopen(f"{kms}/_emulator/keys") as answer:  # noqa: S310
            assert len(json.load(answer)) == 4


def test_a_killed_service_comes_back_with_its_keys(tmp_path: Path, kms: str) -> None:
    config = write_config(tmp_path, document(tmp_path, kms))
    with process(tmp_path, "sealwright", "serve", "--config", config) as service:
        before = fetch(service.ready["http"])
        service.signal(signal.SIGKILL)
        assert service.wait() == -signal.SIGKILL
    with process(tmp_path, "sealwright", "serve", "--config", config) as service:
        assert fetch(service.ready["http"]) == before
        assert _tokens(service, 3) == 3


def test_a_port_in_use_is_reported_plainly(tmp_path: Path, kms: str) -> None:
    config = document(tmp_path, kms)
    with process(tmp_path, "sealwright", "serve", "--config", write_config(tmp_path, config)) as first:
        for workers in (1, 2):
            second = document(tmp_path, kms)
            second["server"] |= {"http": first.ready["http"], "workers": workers}
            with process(
                tmp_path, "sealwright", "serve", "--config", write_config(tmp_path, second), wait=False
            ) as other:
                assert other.wait() == 1
                assert "server.http" in other.log.read_text()
                assert "Traceback" not in other.log.read_text()


def test_no_credentials_do_not_keep_the_service_from_starting(tmp_path: Path, kms: str) -> None:
    config = write_config(tmp_path, document(tmp_path, kms))
    wrong = {"AWS_SECRET_ACCESS_KEY": "wrong"}
    with process(tmp_path, "sealwright", "serve", "--config", config, env=wrong) as service:
        with grpc.insecure_channel(service.ready["grpc"]) as channel, pytest.raises(grpc.RpcError) as refused:
            SigningServiceStub(channel).SignJwt(ORDER, timeout=5)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "PROVIDER_ACCESS_DENIED" in service.log.read_text()
        assert "arn:" not in service.log.read_text()


def _tokens(service: Process, count: int) -> int:
    """Sign over connections of their own, so that every worker gets some."""
    done = 0
    for _ in range(count):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with (
            grpc.insecure_channel(service.ready["grpc"], options=options) as channel,
            contextlib.suppress(grpc.RpcError),
        ):
            done += bool(SigningServiceStub(channel).SignJwt(ORDER, timeout=5).token)
    return done


def _counted(service: Process) -> float:
    """Return how many tokens a worker reports for all workers."""
    lines = fetch(service.ready["admin"], "/metrics").decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("sealwright_tokens_total{"))


def _children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_no_other_thread_interrupts_the_event_loop(tmp_path: Path, kms: str) -> None:
    config = write_config(tmp_path, document(tmp_path, kms))
    with process(tmp_path, "sealwright", "serve", "--config", config) as service:
        with grpc.insecure_channel(service.ready["grpc"]) as channel:
            SigningServiceStub(channel).SignJwt(ORDER, timeout=5)
        pid = service.popen.pid
        policies = {
            int(task.name): os.sched_getscheduler(int(task.name))
            for task in Path(f"/proc/{pid}/task").iterdir()
            if (task / "comm").read_text().strip() != "libuv-worker"  # these look up names, and are not ours
        }
    assert policies.pop(pid) == os.SCHED_OTHER
    assert set(policies.values()) == {os.SCHED_BATCH}
