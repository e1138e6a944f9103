"""Measure CPU time and latency of a signature, and compare them with a bare gRPC server in the same run.

`.venv/bin/python benchmarks/signing.py [--seconds 3] [--rounds 5] [--concurrency 32]` prints a table. The emulator, the service,
the bare server and the load generator each run in their own process. Rounds alternate between the servers, and the table shows
medians, because machines are noisy. CPU is the user and system time of the server's process.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import grpc
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from benchmark_load import CLAIMS, Round, measure

from sealwright.v1.signing_pb2 import SignJwtRequest, SignJwtResponse
from sealwright.v1.signing_pb2_grpc import SigningServiceStub
from support.document import document, issuer
from support.processes import process, write_config

ALGORITHMS = ("ES256", "RS256", "PS256")


def _serve_bare(pipe: Any, answer: bytes) -> None:
    async def serve() -> None:
        async def sign(_request: bytes, _context: Any) -> bytes:
            return answer

        server = grpc.aio.server()
        handlers: dict[str, Any] = {"SignJwt": grpc.unary_unary_rpc_method_handler(sign)}
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler("sealwright.v1.SigningService", handlers),)
        )
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        pipe.send(f"127.0.0.1:{port}")
        await server.wait_for_termination()

    uvloop.run(serve())


@contextmanager
def bare_server(answer: SignJwtResponse) -> Iterator[tuple[int, str]]:
    """Run a gRPC server that returns the same bytes and does nothing else."""
    context = get_context("spawn")
    here, there = context.Pipe()
    server = context.Process(target=_serve_bare, args=(there, answer.SerializeToString()))
    server.start()
    try:
        yield server.pid or 0, here.recv()
    finally:
        server.terminate()
        server.join()


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="sealwright-benchmark-")))
        kms = stack.enter_context(process(directory, "sealwright-emulator", "aws", "--port", "0"))
        config = write_config(directory, document(directory, kms.ready["endpoint"], issuer("payments", *ALGORITHMS)))
        service = stack.enter_context(process(directory, "sealwright", "serve", "--config", config))
        address = service.ready["grpc"]
        requests = {a: SignJwtRequest(issuer="issuers/payments", claims_json=CLAIMS, algorithm=a) for a in ALGORITHMS}
        with grpc.insecure_channel(address) as channel:
            answer = SigningServiceStub(channel).SignJwt(requests["ES256"])
        bare_pid, bare = stack.enter_context(bare_server(answer))
        rounds: dict[str, list[Round]] = {"bare gRPC": [], **{a: [] for a in ALGORITHMS}}
        for _ in range(options.rounds):
            rounds["bare gRPC"].append(measure(bare_pid, bare, requests["ES256"], options.seconds, options.concurrency))
            for name, request in requests.items():
                rounds[name].append(measure(service.popen.pid, address, request, options.seconds, options.concurrency))
    baseline = statistics.median(r.cpu for r in rounds["bare gRPC"])
    print(f"{options.rounds} rounds of {options.seconds} s, {options.concurrency} calls in flight, medians")
    print(f"{'':12}{'CPU µs':>8}{'ratio':>8}{'req/s':>8}{'p50 ms':>8}{'p99 ms':>8}")
    for name, results in rounds.items():
        cpu, rate, p50, p99 = (statistics.median(getattr(r, f) for r in results) for f in ("cpu", "rate", "p50", "p99"))
        print(f"{name:12}{cpu:8.0f}{cpu / baseline:8.2f}{rate:8.0f}{p50:8.1f}{p99:8.1f}")


if __name__ == "__main__":
    main()
