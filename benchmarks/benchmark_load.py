"""Load on a service from a process of its own, and what it costs the service."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import grpc
import uvloop

from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub

CLAIMS = '{"scope":"pay","client_id":"0f9d6a52","roles":["a","b","c"],"amount":9007199254740993}'


@dataclass(frozen=True)
class Round:
    """The result of one round: server CPU per request in µs, requests per second, latencies in ms."""

    cpu: float
    rate: float
    p50: float
    p99: float


def cpu_seconds(pid: int) -> float:
    """Return the user and system time of a process, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def load(address: str, request: SignJwtRequest, seconds: float, concurrency: int) -> list[float]:
    """Keep `concurrency` calls in flight for `seconds`, and return their latencies in seconds."""
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = SigningServiceStub(channel)
        end = time.perf_counter() + seconds

        async def caller() -> None:
            while (start := time.perf_counter()) < end:
                await stub.SignJwt(request, timeout=10)
                latencies.append(time.perf_counter() - start)

        await asyncio.gather(*(caller() for _ in range(concurrency)))
    return latencies


def _load_in_process(queue: Any, address: str, body: bytes, seconds: float, concurrency: int) -> None:
    queue.put(uvloop.run(load(address, SignJwtRequest.FromString(body), seconds, concurrency)))


def measure(pid: int, address: str, request: SignJwtRequest, seconds: float, concurrency: int) -> Round:
    """Run one round of load from a separate process."""
    context = get_context("spawn")
    queue = context.Queue()
    arguments = (queue, address, request.SerializeToString(), seconds, concurrency)
    client = context.Process(target=_load_in_process, args=arguments)
    before = cpu_seconds(pid)
    client.start()
    latencies = sorted(queue.get())
    client.join()
    spent = cpu_seconds(pid) - before
    count = len(latencies)
    return Round(spent / count * 1e6, count / seconds, latencies[count // 2] * 1e3, latencies[int(count * 0.99)] * 1e3)
