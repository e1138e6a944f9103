"""Load on a service from a process of its own, and what it costs the service."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import grpc
import uvloop

from sealwright.v1.signing_pb2 import BatchSignJwtRequest, SignJwtRequest
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


async def load(  # noqa: PLR0917 - runs in another process
    address: str, request: SignJwtRequest, seconds: float, concurrency: int, rate: float = 0, batch: int = 0
) -> list[float]:
    """Make calls for `seconds`, and return their latencies in seconds.

    Args:
        address: Of the service.
        request: What to sign.
        seconds: How long.
        concurrency: Calls in flight; with a rate, at most.
        rate: Calls a second, evenly; 0: as many as the service answers.
        batch: Size of the batches of BatchSignJwt; 0: SignJwt.
    """
    latencies: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = SigningServiceStub(channel)
        many = BatchSignJwtRequest(requests=[request] * batch)
        start = time.perf_counter()
        end, turn = start + seconds, 0

        async def caller() -> None:
            nonlocal turn
            while (now := time.perf_counter()) < end:
                if rate:
                    due = start + turn / rate
                    turn += 1
                    if due > now:
                        await asyncio.sleep(due - now)
                        now = time.perf_counter()
                if batch:
                    answer = await stub.BatchSignJwt(many, timeout=10)
                    if any(r.HasField("error") for r in answer.results):
                        raise SystemExit("a request of a batch failed")
                else:
                    await stub.SignJwt(request, timeout=10)
                latencies.append(time.perf_counter() - now)

        await asyncio.gather(*(caller() for _ in range(concurrency)))
    return latencies


async def load_pages(url: str, seconds: float, concurrency: int) -> list[float]:
    """Fetch a page for `seconds` over kept connections, and return the latencies in seconds."""
    latencies: list[float] = []
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    request = f"GET /{path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
    end = time.perf_counter() + seconds

    async def caller() -> None:
        reader, writer = await asyncio.open_connection(name, int(port))
        while (start := time.perf_counter()) < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit("a page was refused")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - start)
        writer.close()

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return latencies


def _in_process(queue: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    queue.put(uvloop.run(work(*arguments)))


def _run(work: Callable[..., Any], *arguments: Any) -> list[float]:
    """Run a load in a process of its own, and return the latencies, sorted."""
    context = get_context("spawn")
    queue = context.Queue()
    client = context.Process(target=_in_process, args=(queue, work, arguments))
    client.start()
    latencies: list[float] = queue.get()
    client.join()
    return sorted(latencies)


def _load(address: str, body: bytes, *more: Any) -> Any:
    return load(address, SignJwtRequest.FromString(body), *more)


def measure(
    pids: int | Sequence[int],
    address: str,
    request: SignJwtRequest,
    seconds: float,
    concurrency: int,
    *,
    rate: float = 0,
    batch: int = 0,
) -> Round:
    """Run one round of load. The CPU is that of the processes, per token."""
    processes = [pids] if isinstance(pids, int) else pids
    before = sum(map(cpu_seconds, processes))
    latencies = _run(_load, address, request.SerializeToString(), seconds, concurrency, rate, batch)
    spent = sum(map(cpu_seconds, processes)) - before
    count = len(latencies)
    tokens = count * (batch or 1)
    p50, p99 = latencies[count // 2], latencies[int(count * 0.99)]
    return Round(spent / tokens * 1e6, tokens / seconds, p50 * 1e3, p99 * 1e3)


def measure_pages(url: str, seconds: float) -> float:
    """Return how many pages a second are served on 16 connections."""
    return len(_run(load_pages, url, seconds, 16)) / seconds
