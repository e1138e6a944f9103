"""Load on a service from a process of its own, and what it costs the service."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
import uvloop

from sealwright.v1.signing_pb2 import BatchSignJwtRequest, SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub

CLAIMS = '{"scope":"pay","client_id":"0f9d6a52","roles":["a","b","c"],"amount":9007199254740993}'

TICK = os.sysconf("SC_CLK_TCK")
"""In how many of these the kernel counts a second of CPU."""


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
    return (int(fields[11]) + int(fields[12])) / TICK


async def load(  # noqa: PLR0917 - runs in another process
    address: str,
    request: SignJwtRequest,
    seconds: float,
    concurrency: int,
    rate: float = 0,
    batch: int = 0,
    connections: int = 1,
) -> list[float]:
    """Make calls for `seconds`, and return their latencies in seconds. A busy service may refuse some (docs/operations.md).

    Args:
        address: Of the service.
        request: What to sign.
        seconds: How long.
        concurrency: Calls in flight; with a rate, at most.
        rate: Calls a second, evenly; 0: as many as the service answers.
        batch: Size of the batches of BatchSignJwt; 0: SignJwt.
        connections: Connections.
    """
    latencies: list[float] = []
    async with AsyncExitStack() as stack:
        own = [("grpc.use_local_subchannel_pool", 1)]
        opened = [grpc.aio.insecure_channel(address, options=own) for _ in range(connections)]
        stubs: list[Any] = [SigningServiceStub(await stack.enter_async_context(channel)) for channel in opened]
        many = BatchSignJwtRequest(requests=[request] * batch)
        start = time.perf_counter()
        end, turn = start + seconds, 0

        async def caller(stub: Any) -> None:
            nonlocal turn
            while (now := time.perf_counter()) < end:
                if rate:
                    due = start + turn / rate
                    turn += 1
                    if due > now:
                        await asyncio.sleep(due - now)
                        now = time.perf_counter()
                try:
                    if batch:
                        answer = await stub.BatchSignJwt(many, timeout=10)
                        if any(r.HasField("error") for r in answer.results):
                            raise SystemExit("a request of a batch failed")
                    else:
                        await stub.SignJwt(request, timeout=10)
                except grpc.aio.AioRpcError as error:
                    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                        raise
                latencies.append(time.perf_counter() - now)

        await asyncio.gather(*(caller(stubs[n % connections]) for n in range(concurrency)))
    return latencies


async def load_pages(  # noqa: PLR0917 - runs in another process
    url: str, headers: Sequence[str], body: bytes, seconds: float, concurrency: int, rate: float
) -> list[float]:
    """Ask for a page for `seconds` over kept connections, and return the latencies in seconds.

    Args:
        url: Where.
        headers: More headers, as `name: value`.
        body: What is sent; empty: a GET.
        seconds: How long.
        concurrency: Connections.
        rate: Requests a second, evenly; 0: as many as are answered.
    """
    latencies: list[float] = []
    parts = urlsplit(url)
    lines = [f"{'POST' if body else 'GET'} {parts.path} HTTP/1.1", f"Host: {parts.netloc}", *headers]
    request = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode() + body
    tls = ssl.create_default_context() if parts.scheme == "https" else None
    start = time.perf_counter()
    end, turn = start + seconds, 0

    async def caller() -> None:
        nonlocal turn
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls)
        while (now := time.perf_counter()) < end:
            if rate:
                due = start + turn / rate
                turn += 1
                if due > now:
                    await asyncio.sleep(due - now)
                    now = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit("a page was refused")
            length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
            latencies.append(time.perf_counter() - now)
        writer.close()

    await asyncio.gather(*(caller() for _ in range(concurrency)))
    return latencies


def _in_process(work: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[list[float], float]:
    return uvloop.run(work(*arguments)), time.process_time()


def _run(work: Callable[..., Any], *arguments: Any) -> tuple[list[float], float]:
    """Run a load in a process of its own. Return the latencies, sorted, and the seconds of CPU of that process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        latencies, cpu = pool.submit(_in_process, work, arguments).result()
    return sorted(latencies), cpu


def _load(address: str, body: bytes, *more: Any) -> Any:
    return load(address, SignJwtRequest.FromString(body), *more)


def run_calls(  # noqa: PLR0917 - see `load`
    address: str, request: SignJwtRequest, seconds: float, concurrency: int, rate: float, batch: int, connections: int
) -> tuple[list[float], float]:
    """Run `load` in a process of its own. Return the latencies, sorted, and the seconds of CPU of that process."""
    return _run(_load, address, request.SerializeToString(), seconds, concurrency, rate, batch, connections)


def run_pages(  # noqa: PLR0917 - see `load_pages`
    url: str, headers: Sequence[str], body: bytes, seconds: float, concurrency: int, rate: float
) -> tuple[list[float], float]:
    """Run `load_pages` in a process of its own, likewise."""
    return _run(load_pages, url, headers, body, seconds, concurrency, rate)


def measure(
    pids: int | Sequence[int], address: str, request: SignJwtRequest, seconds: float, concurrency: int
) -> Round:
    """Run one round of load. The CPU is that of the processes, per token."""
    processes = [pids] if isinstance(pids, int) else pids
    before = sum(map(cpu_seconds, processes))
    latencies, _ = run_calls(address, request, seconds, concurrency, 0, 0, 1)
    spent = sum(map(cpu_seconds, processes)) - before
    count = len(latencies)
    p50, p99 = latencies[count // 2], latencies[int(count * 0.99)]
    return Round(spent / count * 1e6, count / seconds, p50 * 1e3, p99 * 1e3)
