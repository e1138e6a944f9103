"""What a token costs, in one table: `make bench` (about ten minutes), or `make bench-quick` (a minute).

Each figure is the median of rounds that alternate with a baseline in the same run, because machines are noisy; the ratios count,
and not the microseconds. The fake KMS (`fast_kms.py`, over TLS), the service, the bare client and the load have processes of their
own. The load is a gRPC client in Python that checks the status of every call. One token of each algorithm is verified with PyJWT
and the served JWK Set. It writes `benchmarks/results/<date>.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

import grpc
import jwt
import replicas
from benchmark_load import CLAIMS, Round, cpu_seconds, measure, measure_pages

from providers import BACKENDS, FAST_KMS, bare_cpu
from sealwright.v1.keys_pb2 import ListKeysRequest
from sealwright.v1.keys_pb2_grpc import KeyServiceStub
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from support.document import document, issuer
from support.processes import Process, process, write_config

BATCH = 32


@dataclass
class Scale:
    """How long and how often to measure."""

    seconds: float
    rounds: int


@dataclass
class Service:
    """A running service on a fake KMS."""

    running: Process
    table: dict[str, Any]
    uris: dict[str, str]
    started: float

    @property
    def pids(self) -> list[int]:
        """The processes whose CPU counts: the workers, and the supervisor if there is one."""
        children = Path(f"/proc/{self.running.popen.pid}/task/{self.running.popen.pid}/children").read_text().split()
        return [self.running.popen.pid, *map(int, children)]

    @property
    def address(self) -> str:
        """Where it serves gRPC."""
        return str(self.running.ready["grpc"])

    def verify_a_token(self, request: SignJwtRequest) -> None:
        """Sign once, and verify the token as a stranger would."""
        with grpc.insecure_channel(self.address) as channel:
            token = SigningServiceStub(channel).SignJwt(request).token
        url = f"http://{self.running.ready['http']}/payments/.well-known/jwks.json"
        with urllib.request.urlopen(url) as answer:
            keys = jwt.PyJWKSet.from_dict(json.load(answer))
        key = keys[jwt.get_unverified_header(token)["kid"]]
        jwt.decode(token, key, [key.algorithm_name], options={"verify_aud": False})


@contextmanager
def service(kind: str, *algorithms: str, workers: int = 1) -> Iterator[Service]:
    """Run a fake KMS and the service on it."""
    backend = BACKENDS[kind]
    with tempfile.TemporaryDirectory(prefix="sealwright-bench-") as folder:
        directory = Path(folder)
        with process(directory, *backend.command) as kms:
            table = backend.settings(kms.ready, directory)
            os.environ.update(backend.environment(kms.ready))
            one = issuer("payments", *algorithms)
            for series in one["series"]:
                series["provider"] = "measured"
            config = document(directory, "", one, providers={"measured": table}, timing={})
            config["server"]["workers"] = workers
            path = write_config(directory, config)
            with process(directory, "sealwright", "serve", "--config", path) as first:
                first.stop()  # The keys are in the store now.
            start = time.monotonic()
            with process(directory, "sealwright", "serve", "--config", path) as running:
                started = time.monotonic() - start
                with grpc.insecure_channel(running.ready["grpc"]) as channel:
                    keys = KeyServiceStub(channel).ListKeys(ListKeysRequest(parent="issuers/payments")).keys
                uris = {k.algorithm: k.key_uri for k in keys}
                yield Service(running, table, uris, started)


@dataclass
class Results:
    """What was measured, as rows of the table and as JSON."""

    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)

    def ratio(self, name: str, text: str, target: str, baseline: list[float], ours: list[float]) -> None:
        """Add a ratio of CPU: the baseline's over ours."""
        each = [b / o for b, o in zip(baseline, ours, strict=True)]
        middle = statistics.median(baseline) / statistics.median(ours)
        self.ratios[name] = round(middle, 3)
        self.values[name] = {"baseline_us": baseline, "ours_us": ours}
        cpu = f"{statistics.median(baseline):.0f} / {statistics.median(ours):.0f} µs"
        self._row(text, f"{middle:.2f} ({min(each):.2f} to {max(each):.2f})", target, cpu)

    def value(self, name: str, text: str, target: str, value: float, unit: str) -> None:
        """Add a figure."""
        self.values[name] = value
        self._row(text, f"{value:.3g} {unit}", target, "")

    def _row(self, *cells: str) -> None:
        self.rows.append(cells)  # type: ignore[arg-type] # four cells
        print(f"{cells[0]:62} {cells[1]:24} {cells[2]:10} {cells[3]}", flush=True)


def bare(kind: str, running: Service, algorithm: str, seconds: float, concurrency: int) -> float:
    """Return the CPU of a signature with the bare client, in a process of its own, in µs."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(
            bare_cpu, kind, running.table, running.uris[algorithm], algorithm, seconds, concurrency
        ).result()


def against_bare(
    results: Results, scale: Scale, kind: str, cases: list[tuple[str, str, str, str, Callable[[Service], Round]]]
) -> None:
    """Measure cases that share a service: name, text, target, algorithm and what to measure."""
    algorithms = list(dict.fromkeys(case[3] for case in cases))
    with service(kind, *algorithms) as running:
        for algorithm in algorithms:
            request = sign_request(algorithm)
            running.verify_a_token(request)
            measure(running.pids, running.address, request, 0.5, 64)
        baseline: dict[str, list[float]] = {case[0]: [] for case in cases}
        ours: dict[str, list[float]] = {case[0]: [] for case in cases}
        for _ in range(scale.rounds):
            for name, _text, _target, algorithm, ask in cases:
                alone = name.endswith("_alone")
                baseline[name].append(bare(kind, running, algorithm, scale.seconds, 1 if alone else 64))
                ours[name].append(ask(running).cpu)
        for name, text, target, _algorithm, _ask in cases:
            results.ratio(name, text, target, baseline[name], ours[name])


def sign_request(algorithm: str) -> SignJwtRequest:
    """Return a request."""
    return SignJwtRequest(issuer="issuers/payments", claims_json=CLAIMS, algorithm=algorithm)


def sign(scale: Scale, algorithm: str, concurrency: int) -> Callable[[Service], Round]:
    """Return what measures SignJwt."""
    return lambda s: measure(s.pids, s.address, sign_request(algorithm), scale.seconds, concurrency)


def batch(scale: Scale) -> Callable[[Service], Round]:
    """Return what measures BatchSignJwt, per token."""
    return lambda s: measure(s.pids, s.address, sign_request("ES256"), scale.seconds, 4, batch=BATCH)


def aws(results: Results, scale: Scale) -> None:
    """Measure signatures on AWS against boto3."""
    cases = [
        (
            "sign_es256_aws_vs_boto3",
            "SignJwt ES256, 64 in flight: boto3 / Sealwright",
            "1.5",
            "ES256",
            sign(scale, "ES256", 64),
        ),
        (
            "sign_rs256_aws_vs_boto3",
            "SignJwt RS256, 64 in flight: boto3 / Sealwright",
            "1.5",
            "RS256",
            sign(scale, "RS256", 64),
        ),
        (
            "sign_es256_aws_alone",
            "SignJwt ES256, one at a time: boto3 / Sealwright",
            "1.0",
            "ES256",
            sign(scale, "ES256", 1),
        ),
        ("batch32_es256_aws_vs_boto3", "BatchSignJwt of 32 ES256: boto3 / Sealwright", "4", "ES256", batch(scale)),
    ]
    against_bare(results, scale, "aws", cases)


def others(results: Results, scale: Scale) -> None:
    """Measure signatures on the other providers against their clients."""
    for kind, target in (("gcp", "0.7"), ("azure", "0.9"), ("pkcs11", "0.5")):
        algorithm = BACKENDS[kind].algorithm
        text = f"SignJwt {algorithm} on {kind}, 64 in flight: its client / Sealwright"
        against_bare(results, scale, kind, [(f"sign_{kind}", text, target, algorithm, sign(scale, algorithm, 64))])


def latency(results: Results, scale: Scale) -> None:
    """Measure what the service adds to the latency of the KMS at half load, and how little it needs when it is idle."""
    with service("aws", "ES256") as running:
        request = sign_request("ES256")
        results.value("start_seconds", "start to ready, one issuer, keys in the store", "1.5 s", running.started, "s")
        full = measure(running.pids, running.address, request, scale.seconds, 64)
        half = measure(running.pids, running.address, request, scale.seconds, 64, rate=full.rate / 2)
        results.value("half_load_p50_ms", "SignJwt at half load, KMS included, p50", "", half.p50, "ms")
        results.value("half_load_p99_ms", "SignJwt at half load, KMS included, p99", "", half.p99, "ms")
        rate = measure_pages(f"http://{running.running.ready['http']}/payments/.well-known/jwks.json", scale.seconds)
        results.value("jwks_per_second", "JWK Sets over HTTP, one worker", "4000/s", rate, "/s")
        time.sleep(1)
        before = sum(map(cpu_seconds, running.pids))
        time.sleep(scale.seconds)
        idle = (sum(map(cpu_seconds, running.pids)) - before) / scale.seconds * 100
        results.value("idle_cpu_percent", "idle worker, one issuer: CPU", "", idle, "% of a core")
        memory = max(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in running.pids) * 4096 / 1e6
        results.value("idle_memory_mb", "worker with AWS only: resident memory", "120 MB", memory, "MB")


def workers(results: Results, scale: Scale) -> None:
    """Measure two workers against one, by what a core of CPU signs."""
    rates: dict[int, list[float]] = {1: [], 2: []}
    with service("aws", "ES256") as one, service("aws", "ES256", workers=2) as two:
        for _ in range(scale.rounds):
            for count, running in ((1, one), (2, two)):
                rates[count].append(
                    measure(running.pids, running.address, sign_request("ES256"), scale.seconds, 64).rate
                )
    value = statistics.median(rates[2]) / statistics.median(rates[1])
    text = "two workers / one, tokens a second (KMS and load share the cores)"
    results.value("two_workers", text, "1.7", value, "x")


def hosts(results: Results, _scale: Scale) -> None:
    """Measure 1,000 issuers on PostgreSQL with three replicas."""
    for figure in replicas.measure(replicas.Size()):
        results.value(*figure)


def main() -> None:
    """Measure, print the table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one minute: SignJwt on AWS alone")
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results, start = Results(), time.monotonic()
    print(f"{'figure':62} {'median (range)':24} {'target':10} {'CPU per token'}")
    if options.quick:
        aws(results, Scale(1.5, 3))
    else:
        scale = Scale(options.seconds, options.rounds)
        for part in (aws, others, latency, workers, hosts):
            part(results, scale)
    machine = f"{os.cpu_count()} CPUs, {platform.processor() or platform.machine()}, Python {platform.python_version()}"
    print(f"{machine}; {time.monotonic() - start:.0f} s; fake KMS: {FAST_KMS.name}")
    if not options.quick:
        folder = Path(__file__).with_name("results")
        folder.mkdir(exist_ok=True)
        path = folder / f"{datetime.now(UTC):%Y-%m-%d}.json"
        document_ = {"machine": machine, "ratios": results.ratios, "values": results.values}
        path.write_text(json.dumps(document_, indent=1) + "\n")


if __name__ == "__main__":
    main()
