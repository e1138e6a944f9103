"""F32, F60: metrics never stop signing, whatever becomes of their files, and these do not grow with each start of a worker."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client.mmap_dict import MmapedDict

from sealwright import metrics_files
from sealwright.sql.store import SqlStore
from sealwright.v1 import signing_pb2, signing_pb2_grpc
from sealwright_testing.emulators.aws import AwsEmulator
from support.disks import fill, small_disk
from support.document import document, issuer
from support.processes import Process, process, write_config
from support.service import running
from support.waiting import eventually


@pytest.fixture
def kms(tmp_path: Path) -> Iterator[str]:
    with process(tmp_path, "sealwright-emulator", "aws", "--port", "0") as emulator:
        yield emulator.ready["endpoint"]


def sign(service: Process) -> None:
    """Sign a token, over a connection of its own."""
    with grpc.insecure_channel(service.ready["grpc"]) as channel:
        request = signing_pb2.SignJwtRequest(issuer="issuers/payments", claims_json="{}")
        stub = signing_pb2_grpc.SigningServiceStub(channel)
        assert stub.SignJwt(request, timeout=30, wait_for_ready=True).token


def tokens(service: Process) -> float:
    """Return how many tokens the metrics count; -1: no worker listens at this moment."""
    try:
        with urllib.request.urlopen(f"http://{service.ready['admin']}/metrics", timeout=30) as answer:
            text = answer.read().decode()
    except ConnectionError:
        return -1
    except urllib.error.HTTPError:
        raise
    except urllib.error.URLError:
        return -1
    return sum(float(n) for n in re.findall(r"^sealwright_tokens_total\{.*\} ([0-9.e+]+)$", text, re.MULTILINE))


def workers(service: Process) -> list[int]:
    pid = service.popen.pid
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_one(service: Process) -> None:
    """Kill a worker, and wait until another one is in its place and answers."""
    before = workers(service)
    os.kill(before[0], signal.SIGKILL)
    eventually(lambda: len(set(workers(service)) - set(before)) == 1)


def configured(directory: Path, endpoint: str, **server: Any) -> str:
    config = document(directory, endpoint)
    config["server"] |= {"workers": 2, **server}
    return write_config(directory, config)


def test_f32_the_directory_is_deleted_and_everything_goes_on(tmp_path: Path, kms: str) -> None:
    directory = tmp_path / ".state.db-metrics"
    with process(tmp_path, "sealwright", "serve", "--config", configured(tmp_path, kms)) as service:
        sign(service)
        eventually(lambda: tokens(service) == 1)
        assert directory.stat().st_mode & 0o077 == 0
        shutil.rmtree(directory)
        for _ in range(4):
            tokens(service)
            sign(service)
        # A worker that has not noticed yet goes on with a file that has no name any more.
        eventually(lambda: len(list(directory.rglob("counter_*.db"))) == 2)
        kill_one(service)
        for _ in range(20):
            sign(service)
        eventually(lambda: tokens(service) >= 20)
        assert len(list(directory.rglob("counter_*.db"))) >= 2
        assert "Traceback" not in service.log.read_text()
    assert not list(directory.iterdir()), "nothing is left at the end"


@pytest.mark.parametrize("how", ["a file", "below a file", "full"])
def test_f32_a_directory_that_cannot_be_used_stops_nothing(tmp_path: Path, kms: str, how: str) -> None:
    (tmp_path / "file").write_text("")
    path = {"a file": tmp_path / "file", "below a file": tmp_path / "file" / "below", "full": Path("/dev/full")}[how]
    config = configured(tmp_path, kms, metrics_path=str(path))
    with process(tmp_path, "sealwright", "serve", "--config", config) as service:
        sign(service)
        kill_one(service)
        for _ in range(10):
            sign(service)
            tokens(service)
        text = service.log.read_text()
        assert "the directory of the metrics cannot be used" in text
        assert "Traceback" not in text


def test_f60_files_do_not_grow_with_the_starts_of_workers_and_nothing_counted_is_lost(tmp_path: Path, kms: str) -> None:
    directory = tmp_path / ".state.db-metrics"
    with process(tmp_path, "sealwright", "serve", "--config", configured(tmp_path, kms)) as service:
        for round_number in range(1, 5):
            for _ in range(3):
                sign(service)
            eventually(lambda n=round_number: tokens(service) == 3 * n)  # type: ignore[misc]
            kill_one(service)
            eventually(lambda n=round_number: tokens(service) == 3 * n)  # type: ignore[misc]
        eventually(lambda: len(list(directory.rglob("counter_*.db"))) == 3)
    abandoned = directory / "abandoned"
    abandoned.mkdir()
    (directory / "abandoned.lock").touch()
    with process(tmp_path, "sealwright", "serve", "--config", configured(tmp_path, kms)):
        assert not abandoned.exists(), "a killed supervisor left it"


def test_f60_damaged_files_of_a_dead_worker_are_given_up(tmp_path: Path) -> None:
    (tmp_path / "counter_7-0.db").write_bytes(b"\xff" * 4096)
    (tmp_path / "histogram_7-0.db").write_bytes(b"")
    (tmp_path / "counter_77-0.db").write_bytes(b"")
    metrics_files.absorb(tmp_path, 7)
    assert {p.name for p in tmp_path.glob("*_7*")} == {"counter_77-0.db"}
    metrics_files.absorb(tmp_path / "missing", 7)


COUNTING = """
import logging, pathlib, sys
from prometheus_client import Counter, Histogram
from sealwright import metrics_files
logging.basicConfig(format="%(message)s")
metrics_files._RETRY_SECONDS = 0.0
metrics_files.begin()
tokens = Counter("tokens", "Tokens.", ["issuer"])
spans = Histogram("spans", "Spans.", ["issuer"], buckets=[1])
def count(numbers):
    for number in numbers:
        tokens.labels(f"issuer-{number:060}").inc()
        spans.labels(f"issuer-{number:060}").observe(1)
count(range(100))
print("begun", flush=True)
sys.stdin.readline()
count(range(8000))
print("counted", flush=True)
sys.stdin.readline()
count(range(8000))
print("again", flush=True)
sys.stdin.readline()
"""
"""A worker that counts under names for megabytes in each of its files."""


def numbers_in(folder: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for path in folder.glob("*.db"):
        found |= {k: v for k, v, *_ in MmapedDict.read_all_values_from_file(str(path))}  # type: ignore[no-untyped-call]
    return found


def test_f32_a_full_disk_ends_no_worker_whose_files_have_to_grow(tmp_path: Path) -> None:
    """Blocks of a sparse file that are missing on a full disk end the process with SIGBUS."""
    log = tmp_path / "log"
    with small_disk(tmp_path / "disk", "24m") as disk, log.open("w") as errors:
        folder = disk / "metrics"
        folder.mkdir()
        with subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", COUNTING],
            env={**os.environ, metrics_files.VARIABLE: str(folder)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            assert worker.stdout.readline() == "begun\n"
            fill(disk / "ballast")
            print(file=worker.stdin, flush=True)
            assert worker.stdout.readline() == "counted\n", f"status {worker.wait()}"
            assert 400 < len(numbers_in(folder)) < 20_000, "what was there before, and what fitted"
            (disk / "ballast").unlink()
            print(file=worker.stdin, flush=True)
            assert worker.stdout.readline() == "again\n", f"status {worker.wait()}"
            found = numbers_in(folder)
            print(file=worker.stdin, flush=True)
        assert worker.returncode == 0
    assert log.read_text().count("the files of the metrics cannot grow: No space left on device") == 2
    totals = [v for k, v in found.items() if "tokens_total" in k]
    assert len(totals) == 8000
    assert set(totals) == {2.0, 3.0}, "nothing that was counted while the disk was full is lost"


def test_f32_a_full_disk_does_not_end_the_supervisor_that_adds_up(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "4m") as disk:
        writer: Any = metrics_files.ReservedDict(str(disk / "counter_7-0.db"))
        writer.write_value("tokens", 3.0, 0.0)
        writer.close()
        fill(disk / "ballast")
        script = "import pathlib, sys; from sealwright import metrics_files; metrics_files.absorb(pathlib.Path(sys.argv[1]), 7)"
        done = subprocess.run([sys.executable, "-c", script, str(disk)], check=False, capture_output=True, text=True)  # noqa: S603
        assert done.returncode == 0, "not SIGBUS"
        assert "the numbers of a worker that has ended are lost" in done.stderr


async def test_f60_an_idle_worker_asks_the_store_as_often_with_many_issuers_as_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[str] = Counter()
    for name in ("probe", "read"):
        original = getattr(SqlStore, name)

        async def counting(self: SqlStore, *args: Any, name: str = name, original: Any = original) -> Any:
            asked[name] += 1
            return await original(self, *args)

        monkeypatch.setattr(SqlStore, name, counting)
    async with AwsEmulator() as emulator:
        many = [issuer(f"issuer-{n}") for n in range(20)]
        async with running(document(tmp_path, emulator.endpoint, *many)) as service:
            sync = service.app.rotator._sync

            async def cycle() -> int:
                before = asked["probe"]
                await service.app.rotator.tick()
                return asked["probe"] - before

            quiet = 0
            for _ in range(400):
                quiet = quiet + 1 if await cycle() == 0 else 0
                await sync.refresh()
                if quiet > 3:
                    break
            assert quiet > 3, asked
            reads = asked["read"]
            for _ in range(20):
                await sync.refresh()
                await service.app.rotator.tick()
            assert asked["read"] == reads
