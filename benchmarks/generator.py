"""The load on a service: by h2load (Debian: nghttp2-client) where it is installed, else by a client in Python.

h2load costs a twentieth of what a client of gRPC in Python costs, which would distort latencies on a machine of two cores. It
sees the status of HTTP and not that of gRPC, so the service's metrics are asked how many calls ended with OK and how many tokens
they released. During the load a client of gRPC signs a few more tokens, and verifies them with PyJWT and the served JWK Set.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import subprocess
import tempfile
import time
from base64 import b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from benchmark_load import cpu_seconds, run_calls, run_pages
from running import Service, answered

from providers import DIGEST
from sealwright.v1.signing_pb2 import BatchSignJwtRequest, SignJwtRequest

H2LOAD = shutil.which("h2load")
NAME = "h2load" if H2LOAD else "a client in Python (h2load is missing: apt-get install nghttp2-client)"
SAMPLE = 5
"""Tokens that are verified in each round."""
BESIDE_SECONDS = 1 if H2LOAD else 5
"""How much longer a load lasts that runs beside another. The client in Python has to start first."""
_BURST = 0.02
"""Share of the calls with a rate that may be refused. Where the machine has stood still, they all come at once."""
_LEAD = 0.3
"""Seconds until all connections of a load are made."""
_PER_CLIENT = 40.0
"""Requests a second of one connection with a rate. h2load looks at its clock every 10 ms: more would come in bursts."""


@dataclass(frozen=True)
class Target:
    """What is asked.

    Attributes:
        url: Where.
        body: What is sent; empty: a GET.
        headers: More headers, as `name: value`.
        http1: HTTP/1.1, and not HTTP/2.
    """

    url: str
    body: bytes = b""
    headers: tuple[str, ...] = ()
    http1: bool = True


@dataclass(frozen=True)
class Answers:
    """What came of a load: sorted latencies in seconds, how long it took, and the seconds of CPU of the generator."""

    latencies: list[float]
    seconds: float
    cpu: float

    def at(self, share: float) -> float:
        """Return a percentile of the latencies, in ms."""
        return self.latencies[int(len(self.latencies) * share)] * 1e3


@dataclass(frozen=True)
class Round:
    """One round of load on a service.

    Attributes:
        cpu: CPU of the service for a token, in µs.
        tokens: How many were asked for, without those of the sample.
        refused: The share of calls that the service refused, because it had no CPU left.
        rate: Tokens a second.
        p50: Median latency of a call, in ms.
        p99: The 99th percentile.
        cores: How many cores were busy with the service, the KMS and the generator.
    """

    cpu: float
    tokens: int
    refused: float
    rate: float
    p50: float
    p99: float
    cores: tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """The shape of a load.

    Attributes:
        connections: Connections.
        streams: Calls in flight on each.
        rate: Calls a second, evenly; 0: as many as are answered.
        batch: Size of the batches of BatchSignJwt; 0: SignJwt.
    """

    connections: int = 8
    streams: int = 8
    rate: float = 0
    batch: int = 0


class Load:
    """A running h2load."""

    def __init__(self, target: Target, count: int, shape: Shape) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="sealwright-load-")
        self._log, self._count, self._target = Path(self._folder.name, "log"), count, target
        clients, options = shape.connections, ["-m", str(shape.streams)]
        if shape.rate:
            # The connections start one after the other, and so their requests come one after the other.
            clients = max(1, math.ceil(shape.rate / _PER_CLIENT))
            each = max(1, round(shape.rate / 1000))
            options = ["-m", "64" if not target.http1 else "1", f"--rps={max(1, round(shape.rate / clients))}"]
            options += ["-r", str(each), "--rate-period=1ms"]
        if target.body:
            body = Path(self._folder.name, "body")
            body.write_bytes(target.body)
            options += ["-d", str(body)]
        options += [f"--header={h}" for h in target.headers] + (["--h1"] if target.http1 else [])
        command = [str(H2LOAD), "-n", str(max(count, clients)), "-c", str(clients), f"--log-file={self._log}", *options]
        self._count = max(count, clients)
        self._process = subprocess.Popen(  # noqa: S603 - our own arguments
            [*command, target.url], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._output = cast("IO[bytes]", self._process.stdout)

    def wait(self) -> Answers:
        """Wait until all calls have been answered.

        Raises:
            SystemExit: One of them was not, or not with HTTP 200.
        """
        with self._output:
            output = self._output.read().decode()
        _, status, used = os.wait4(self._process.pid, 0)
        self._process.returncode = os.waitstatus_to_exitcode(status)
        rows = [line.split("\t") for line in self._log.read_text().splitlines()] if self._log.exists() else []
        self._folder.cleanup()
        if len(rows) != self._count or {row[1] for row in rows} != {"200"}:
            raise SystemExit(f"h2load made {len(rows)} of {self._count} calls:\n{output}")
        starts = [int(row[0]) for row in rows]
        latencies = [int(row[2]) / 1e6 for row in rows]
        seconds = (max(s / 1e6 + t for s, t in zip(starts, latencies, strict=True))) - min(starts) / 1e6
        return Answers(sorted(latencies), seconds, used.ru_utime + used.ru_stime)


def pages(url: str, seconds: float, rate: float = 0, expected: float = 10_000) -> Answers:
    """Fetch a page on 16 connections; with a rate, on as many as it needs."""
    return ask(Target(url), seconds, rate, expected)


def ask(target: Target, seconds: float, rate: float = 0, expected: float = 10_000) -> Answers:
    """Ask the same thing over HTTP/1.1 again and again; without a rate, as often as is expected in that time."""
    if H2LOAD:
        return Load(target, round(seconds * (rate or expected)), Shape(16, 1, rate)).wait()
    latencies, cpu = run_pages(target.url, target.headers, target.body, seconds, 16, rate)
    return Answers(latencies, seconds, cpu)


@contextmanager
def beside(target: Target, seconds: float, rate: float) -> Iterator[None]:
    """Ask the same thing over HTTP/1.1 evenly, from before the block until after it.

    Raises:
        SystemExit: It was not answered, or it ended before the block did.
    """
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask, target, seconds, rate)
        time.sleep(_LEAD)
        yield
        if asking.done():
            raise SystemExit("the load beside it ended too early")
        made = asking.result()
        if len(made.latencies) < 0.9 * rate * made.seconds:
            raise SystemExit(
                f"the load beside it made {len(made.latencies) / made.seconds:.0f} calls a second, not {rate:.0f}"
            )


def bare_sign(kms: dict[str, str], uri: str) -> Target:
    """Return the call to AWS KMS itself that makes a signature. The fake does not check who calls."""
    message = b64encode(DIGEST).decode()
    asked = {
        "KeyId": uri.removeprefix("awskms:///"),
        "Message": message,
        "MessageType": "DIGEST",
        "SigningAlgorithm": "ECDSA_SHA_256",
    }
    headers = ("X-Amz-Target: TrentService.Sign", "Content-Type: application/x-amz-json-1.1")
    return Target(kms["endpoint"] + "/", json.dumps(asked).encode(), headers)


def sign(service: Service, request: SignJwtRequest, seconds: float, shape: Shape | None = None) -> Round:
    """Run one round of load on the service, and check its answers.

    Raises:
        SystemExit: A call failed, or the service counted something else than the calls that were made.
    """
    shape = shape or Shape()
    key = (request.algorithm, shape.connections, shape.streams, shape.batch)
    if not shape.rate and key not in service.speeds:
        service.speeds[key] = 500.0 * (shape.batch or 1)
        service.speeds[key] = sign(service, request, 0.5, shape).rate  # It also warms everything up.
    made = _sign(
        service, request, seconds, shape, round(seconds * (shape.rate or service.speeds[key] / _size(shape))) + 1
    )
    if not shape.rate:
        service.speeds[key] = made.rate
    return made


def sign_count(service: Service, request: SignJwtRequest, calls: int, shape: Shape) -> int:
    """Make so many calls (with the load in Python: for a second), check the answers, and return the number of tokens."""
    return _sign(service, request, 1, shape, max(calls, shape.connections)).tokens


def _size(shape: Shape) -> int:
    return shape.batch or 1


def _sign(service: Service, request: SignJwtRequest, seconds: float, shape: Shape, calls: int) -> Round:
    with answered(service, refusable=_BURST if shape.rate else 1) as asked:
        before = (service.cpu(), cpu_seconds(service.kms.popen.pid))
        if H2LOAD:
            load = Load(_target(service, request, shape), calls, shape)
            asked.sample_refused = service.verify_tokens(request, SAMPLE, seconds / SAMPLE / 2)
            answers = load.wait()
        else:
            answers = _python(service, request, seconds, shape)
            asked.sample_refused = service.verify_tokens(request, SAMPLE, 0.01)
        spent = (service.cpu() - before[0], cpu_seconds(service.kms.popen.pid) - before[1], answers.cpu)
        asked.calls, asked.size, asked.sampled = len(answers.latencies), _size(shape), SAMPLE
    return Round(
        cpu=spent[0] / (asked.tokens + asked.sampled) * 1e6,
        tokens=asked.tokens,
        refused=asked.refused / asked.calls,
        rate=asked.tokens / answers.seconds,
        p50=answers.at(0.5),
        p99=answers.at(0.99),
        cores=(spent[0] / answers.seconds, spent[1] / answers.seconds, spent[2] / answers.seconds),
    )


def _target(service: Service, request: SignJwtRequest, shape: Shape) -> Target:
    message: SignJwtRequest | BatchSignJwtRequest = request
    if shape.batch:
        message = BatchSignJwtRequest(requests=[request] * shape.batch)
    encoded = message.SerializeToString()
    method = "BatchSignJwt" if shape.batch else "SignJwt"
    url = f"http://{service.address}/sealwright.v1.SigningService/{method}"
    headers = ("content-type: application/grpc", "te: trailers")
    return Target(url, struct.pack(">BI", 0, len(encoded)) + encoded, headers, http1=False)


def _python(service: Service, request: SignJwtRequest, seconds: float, shape: Shape) -> Answers:
    width = shape.connections * shape.streams
    latencies, cpu = run_calls(service.address, request, seconds, width, shape.rate, shape.batch, shape.connections)
    return Answers(latencies, seconds, cpu)
