"""CPU of one AsymmetricSign in the client alone: Google's client class, the client of gRPC, and the channel of the `gcp` provider.

`.venv/bin/python benchmarks/google_calls.py [--seconds 2] [--rounds 5] [--concurrency 64]` prints a table. The fast fake KMS has a
process of its own, over TLS, and so has each client. All use asyncio with uvloop.
"""

from __future__ import annotations

import argparse
import os
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import uvloop

from providers import DIGEST, Settings, bare_gcp, repeat, running


def grpc_stub(table: Settings, uri: str, _algorithm: str, seconds: float, concurrency: int) -> float:
    """Sign with a method of a channel of gRPC, without Google's client class."""
    import grpc  # noqa: PLC0415
    from google.cloud.kms_v1.types import service  # noqa: PLC0415

    request: Any = service.AsymmetricSignRequest.pb()
    answer: Any = service.AsymmetricSignResponse.pb()
    name = uri.removeprefix("gcpkms://")

    async def run() -> float:
        with open(table["ca_file"], "rb") as file:  # noqa: ASYNC230, PTH123 - before anything else runs
            trusted = grpc.ssl_channel_credentials(file.read())
        async with grpc.aio.secure_channel(table["endpoint"], trusted) as channel:
            method: Any = channel.unary_unary(
                "/google.cloud.kms.v1.KeyManagementService/AsymmetricSign",
                request.SerializeToString,
                answer.FromString,
            )
            metadata = (("x-goog-request-params", f"name={name}"), ("authorization", "Bearer x"))

            async def sign() -> None:
                made = request(name=name, digest={"sha256": DIGEST})
                await method(made, timeout=10, metadata=metadata)

            return await repeat(sign, seconds, concurrency)

    return uvloop.run(run())


def ours(table: Settings, uri: str, _algorithm: str, seconds: float, concurrency: int) -> float:
    """Sign with the channel of the `gcp` provider."""
    import ssl  # noqa: PLC0415

    from google.cloud.kms_v1.types import service  # noqa: PLC0415

    from sealwright_providers.gcp.channel import KmsChannel  # noqa: PLC0415

    request: Any = service.AsymmetricSignRequest.pb()
    answer: Any = service.AsymmetricSignResponse.pb()
    name = uri.removeprefix("gcpkms://")

    async def run() -> float:
        channel = KmsChannel(table["endpoint"], None, ssl.create_default_context(cafile=table["ca_file"]))

        async def sign() -> None:
            made = request(name=name, digest={"sha256": DIGEST})
            await channel.call("AsymmetricSign", made, answer, "name", name, timeout=10)

        try:
            return await repeat(sign, seconds, concurrency)
        finally:
            await channel.aclose()

    return uvloop.run(run())


CLIENTS = {"Google's client class": bare_gcp, "gRPC": grpc_stub, "the channel of the provider": ours}


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=64)
    options = parser.parse_args()
    cpu: dict[str, list[float]] = {name: [] for name in CLIENTS}
    with running("gcp") as (_, _, table, uri):
        for _ in range(options.rounds):
            for name, client in CLIENTS.items():
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    asked = (table, uri, "ES256", options.seconds, options.concurrency)
                    cpu[name].append(pool.submit(client, *asked).result())
    print(
        f"{options.rounds} rounds of {options.seconds} s, {options.concurrency} calls in flight, {os.cpu_count()} CPUs"
    )
    for name, rounds in cpu.items():
        print(f"{name:30}{statistics.median(rounds):8.0f} µs ({min(rounds):.0f} to {max(rounds):.0f})")


if __name__ == "__main__":
    main()
