"""What callers meet when more signatures are asked for than a worker can make.

Run `python benchmarks/overload.py`. It measures how many tokens a second one worker signs, and then asks for shares of that,
evenly, over 16 connections and without waiting for answers. It prints how many calls were accepted and refused, and how long both
took. The load and the fake KMS need CPU too, so on two cores twice the capacity is about as much as can be asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context

import uvloop
from benchmark_load import CLAIMS, measure
from google.rpc import code_pb2, error_details_pb2, status_pb2  # type: ignore[import-untyped]
from running import service

from sealwright.http2.frames import header_field
from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright_providers.http2.connection import MAX_REQUESTS, Connection
from sealwright_providers.http2.requests import Answer

CONNECTIONS = 16
PAUSE = 0.002
WARM_SECONDS = 1.0
"""How long calls do not count at first: an overload has to be noticed."""
NAMES = dict(map(reversed, code_pb2.Code.items()))
TIMEOUT = 10.0
PATH = "/sealwright.v1.SigningService/SignJwt"
UNSERVED = "/sealwright.v1.SigningService/Nothing"
"""Its calls are refused without a look at the request: what remains is the time of the connection, the kernel and this client."""


def head(path: str) -> bytes:
    """Return the header block of a call."""
    return b"".join(
        header_field(name, value)
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", path.encode()),
            (b":authority", b"localhost"),
            (b"te", b"trailers"),
            (b"content-type", b"application/grpc"),
            (b"grpc-timeout", b"10S"),
        )
    )


@dataclass
class Answers:
    """How long calls took, in seconds, and what the refused ones were told."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)


async def flood(address: str, path: str, rate: float, seconds: float) -> Answers:
    """Make so many calls a second.

    Args:
        address: Of the service.
        path: The method that is called.
        rate: Calls a second.
        seconds: How long they count, after `WARM_SECONDS`.
    """
    loop = asyncio.get_running_loop()
    host, _, port = address.rpartition(":")
    connections = [
        (await loop.create_connection(lambda: Connection(loop), host, int(port)))[1] for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(c.greeted for c in connections))
    message = SignJwtRequest(issuer="issuers/payments", claims_json=CLAIMS).SerializeToString()
    body = b"\0" + len(message).to_bytes(4) + message
    answers, calls, fields = Answers(), set(), head(path)
    start = time.perf_counter()

    turns = [asyncio.Semaphore(MAX_REQUESTS) for _ in connections]

    async def ask(connection: Connection, turn: asyncio.Semaphore) -> None:
        began = time.perf_counter()
        async with turn:
            answer = await connection.exchange(fields, body, TIMEOUT)
            reason = told(answer)
            into = answers.refused if reason else answers.accepted
        if began - start >= WARM_SECONDS:
            into.append(time.perf_counter() - began)
            answers.reasons[reason] += 1

    made = 0
    while (now := time.perf_counter() - start) < seconds + WARM_SECONDS:
        while made < now * rate:
            call = asyncio.create_task(ask(connections[made % CONNECTIONS], turns[made % CONNECTIONS]))
            calls.add(call)
            call.add_done_callback(calls.discard)
            made += 1
        await asyncio.sleep(PAUSE)
    await asyncio.gather(*calls)
    for connection in connections:
        connection.abort()
    return answers


def told(answer: Answer) -> str:
    """Return the code of an error, and whether it says when to try again; empty: there is none."""
    code = int(answer.trailers.get(b"grpc-status", b"2"))
    if not code:
        return ""
    text = answer.trailers.get(b"grpc-status-details-bin", b"")
    details = status_pb2.Status.FromString(base64.b64decode(text + b"=" * (-len(text) % 4))).details
    retry = any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)
    return f"{NAMES[code]}{' with RetryInfo' if retry else ''}"


def in_process(address: str, path: str, rate: float, seconds: float) -> Answers:
    """Run the load."""
    return uvloop.run(flood(address, path, rate, seconds))


def show(address: str, path: str, name: str, rate: float, seconds: float) -> None:
    """Run the load in a process of its own, and print a line of the table."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        answers = pool.submit(in_process, address, path, rate, seconds).result()
    reasons = ", ".join(f"{n} {reason}" for reason, n in answers.reasons.most_common() if reason)
    print(
        f"{name + f' = {rate:.0f}/s':26} {len(answers.accepted) / seconds:10.0f} {quantiles(answers.accepted):>16} "
        f"{len(answers.refused) / seconds:10.0f} {quantiles(answers.refused):>16}  {reasons}",
        flush=True,
    )


def quantiles(times: Sequence[float]) -> str:
    """Return p50 and p99 in ms."""
    if not times:
        return "-"
    ordered = sorted(times)
    return f"{ordered[len(ordered) // 2] * 1e3:.1f} / {ordered[len(ordered) * 99 // 100] * 1e3:.1f}"


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.9, 1.2, 1.5, 2.0])
    parser.add_argument("--full", type=float, help="tokens a second that are taken for all that a worker can sign")
    options = parser.parse_args()
    with service("aws", "ES256") as running:
        request = SignJwtRequest(issuer="issuers/payments", claims_json=CLAIMS)
        measure(running.pids, running.address, request, 1, 64)
        full = measure(running.pids, running.address, request, options.seconds, 64)
        print(f"64 in flight: {full.rate:.0f} tokens a second, p50 / p99 {full.p50:.1f} / {full.p99:.1f} ms")
        print(
            f"{'asked for':26} {'accepted/s':>10} {'p50 / p99 ms':>16} {'refused/s':>10} {'p50 / p99 ms':>16}  refusals"
        )
        capacity = options.full or full.rate
        for share in options.shares:
            show(running.address, PATH, f"{share:.1f} x", capacity * share, options.seconds)
        most = max(options.shares)
        show(running.address, UNSERVED, f"{most:.1f} x, no method", capacity * most, options.seconds)


if __name__ == "__main__":
    main()
