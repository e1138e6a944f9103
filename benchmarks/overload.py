"""What callers meet when more signatures are asked for than a worker can make.

Run `python benchmarks/overload.py`. It measures how many tokens a second one worker signs, and then asks for shares of that,
evenly, over 16 connections and without waiting for answers. It prints how many calls were accepted and refused, and how long both
took. The load and the fake KMS need CPU too, so on two cores twice the capacity is about as much as can be asked for.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import grpc
import uvloop
from benchmark_load import CLAIMS, measure
from google.rpc import error_details_pb2, status_pb2  # type: ignore[import-untyped]
from running import service

from sealwright.v1.signing_pb2 import SignJwtRequest
from sealwright.v1.signing_pb2_grpc import SigningServiceStub

CONNECTIONS = 16
PAUSE = 0.002


@dataclass
class Answers:
    """How long calls took, in seconds, and what the refused ones were told."""

    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)


async def flood(address: str, rate: float, seconds: float, warm: float) -> Answers:
    """Ask for so many tokens a second.

    Args:
        address: Of the service.
        rate: Calls a second.
        seconds: How long they count.
        warm: How long they do not count before that.
    """
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(CONNECTIONS)]
    stubs: list[Any] = [SigningServiceStub(channel) for channel in channels]
    request = SignJwtRequest(issuer="issuers/payments", claims_json=CLAIMS)
    answers, calls = Answers(), set()
    start = time.perf_counter()

    async def ask(stub: Any) -> None:
        began = time.perf_counter()
        into, reason = answers.accepted, ""
        try:
            await stub.SignJwt(request, timeout=10)
        except grpc.aio.AioRpcError as error:
            into, reason = answers.refused, told(error)
        if began - start >= warm:
            into.append(time.perf_counter() - began)
            answers.reasons[reason] += 1

    made = 0
    while (now := time.perf_counter() - start) < seconds + warm:
        while made < now * rate:
            call = asyncio.create_task(ask(stubs[made % CONNECTIONS]))
            calls.add(call)
            call.add_done_callback(calls.discard)
            made += 1
        await asyncio.sleep(PAUSE)
    await asyncio.gather(*calls)
    for channel in channels:
        await channel.close()
    return answers


def told(error: grpc.aio.AioRpcError) -> str:
    """Return the code of an error, and whether it says when to try again."""
    details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin", b"")
    retry = any(
        detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR)
        for detail in status_pb2.Status.FromString(bytes(details)).details
    )
    return f"{error.code().name}{' with RetryInfo' if retry else ''}"


def in_process(address: str, rate: float, seconds: float, warm: float) -> Answers:
    """Run the load."""
    return uvloop.run(flood(address, rate, seconds, warm))


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
    options = parser.parse_args()
    with service("aws", "ES256") as running:
        request = SignJwtRequest(issuer="issuers/payments", claims_json=CLAIMS)
        measure(running.pids, running.address, request, 1, 64)
        full = measure(running.pids, running.address, request, options.seconds, 64)
        print(f"64 in flight: {full.rate:.0f} tokens a second, p50 / p99 {full.p50:.1f} / {full.p99:.1f} ms")
        print(
            f"{'asked for':22} {'accepted/s':>10} {'p50 / p99 ms':>16} {'refused/s':>10} {'p50 / p99 ms':>16}  refusals"
        )
        for share in options.shares:
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                rate = full.rate * share
                answers = pool.submit(in_process, running.address, rate, options.seconds, 1.0).result()
            reasons = ", ".join(f"{n} {reason}" for reason, n in answers.reasons.most_common() if reason)
            print(
                f"{share:.1f} x = {rate:6.0f}/s {' ':6} {len(answers.accepted) / options.seconds:10.0f} "
                f"{quantiles(answers.accepted):>16} {len(answers.refused) / options.seconds:10.0f} "
                f"{quantiles(answers.refused):>16}  {reasons}",
                flush=True,
            )


if __name__ == "__main__":
    main()
