"""What a token costs, in one table: `make bench` (under ten minutes), or `make bench-quick` (under a minute).

Each figure is the median of rounds that alternate with a baseline in the same run, because machines are noisy; the ratios count,
and not the microseconds. The fake KMS (`fast_kms.py`, over TLS), the service, the bare client and the load have processes of their
own. `generator.py` makes the load, and checks the answers. It writes `benchmarks/results/<date>.json`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

import generator
import many
import parts
import replicas
import steady
from generator import Shape
from running import end_cleanly, service, sign_request
from table import Results, Scale, machine

from providers import BACKENDS, FAST_KMS, bare_cpu
from sealwright_testing.postgres import postgres_binaries

BATCH = 32
QUICK = Scale(0.7, 3)
HOSTS = replicas.Size(issuers=200, seconds=10, changes=15)


@dataclass(frozen=True)
class Case:
    """A kind of load that is compared with the bare client of the KMS."""

    name: str
    text: str
    target: str
    algorithm: str
    shape: Shape = Shape()  # noqa: RUF009 - it is frozen
    bare_width: int = 64


AWS = (
    Case("sign_es256_aws_vs_boto3", "SignJwt ES256, 64 in flight: boto3 / Sealwright", "1.5", "ES256"),
    Case("sign_rs256_aws_vs_boto3", "SignJwt RS256, 64 in flight: boto3 / Sealwright", "1.5", "RS256"),
    Case("sign_es256_aws_alone", "SignJwt ES256, one at a time: boto3 / Sealwright", "1.0", "ES256", Shape(1, 1), 1),
    Case(
        "batch32_es256_aws_vs_boto3",
        f"BatchSignJwt of {BATCH} ES256: boto3 / Sealwright",
        "4",
        "ES256",
        Shape(4, 1, batch=BATCH),
    ),
)


def against_bare(results: Results, scale: Scale, kind: str, cases: tuple[Case, ...]) -> None:
    """Measure cases that share a service."""
    algorithms = dict.fromkeys(case.algorithm for case in cases)
    context = get_context("spawn")  # the bare client has a process of its own
    with service(kind, *algorithms) as running, ProcessPoolExecutor(1, mp_context=context) as pool:
        baseline: dict[str, list[float]] = {case.name: [] for case in cases}
        ours: dict[str, list[float]] = {case.name: [] for case in cases}
        refused: dict[str, list[float]] = {case.name: [] for case in cases}
        for _ in range(scale.rounds):
            for case in cases:
                bare = (
                    kind,
                    running.table,
                    running.uris[case.algorithm],
                    case.algorithm,
                    scale.seconds,
                    case.bare_width,
                )
                baseline[case.name].append(pool.submit(bare_cpu, *bare).result())
                request = sign_request(case.algorithm)
                made = generator.sign(running, request, scale.seconds, case.shape)
                ours[case.name].append(made.cpu)
                refused[case.name].append(made.refused)
        for case in cases:
            results.cpu_ratio(case.name, case.text, case.target, baseline[case.name], ours[case.name])
            if share := statistics.median(refused[case.name]):
                print(f"  (the service refused {share:.1%} of the calls, because it had no CPU left)")


def aws(results: Results, scale: Scale) -> None:
    """Measure signatures on AWS against boto3."""
    against_bare(results, scale, "aws", AWS)


def others(results: Results, scale: Scale) -> None:
    """Measure signatures on the other providers against their clients."""
    for kind, target in (("gcp", "0.7"), ("azure", "0.9"), ("pkcs11", "0.5")):
        algorithm = BACKENDS[kind].algorithm
        text = f"SignJwt {algorithm} on {kind}, 64 in flight: its client / Sealwright"
        against_bare(results, scale, kind, (Case(f"sign_{kind}", text, target, algorithm),))


def hosts(results: Results, _scale: Scale) -> None:
    """Measure some hundred issuers on PostgreSQL with three replicas. `replicas.py` alone takes 1,000, and five minutes."""
    if postgres_binaries() is None:
        print("PostgreSQL is not installed: replicas are not measured")
        return
    for figure in replicas.measure(HOSTS):
        results.value(*figure)


PARTS: dict[str, Callable[[Results, Scale], None]] = {
    "aws": aws,
    "others": others,
    "one": steady.one_worker,
    "workers": steady.workers,
    "parts": parts.report,
    "many": many.report,
    "hosts": hosts,
}

ROUNDS = {"aws": 5}


def main() -> None:
    """Measure, print the table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute: SignJwt on AWS alone")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, help="default: 3, and 5 for AWS")
    parser.add_argument(
        "--only", choices=PARTS, action="append", help="some of it; its figures replace those in today's file"
    )
    parser.add_argument("--no-file", action="store_true", help="only print")
    options = parser.parse_args()
    end_cleanly()
    results, start = Results(), time.monotonic()
    print(f"load: {generator.NAME}; fake KMS: {FAST_KMS.name}; {machine()}")
    results.header()
    if options.quick:
        aws(results, QUICK)
    else:
        for name in options.only or PARTS:
            began = time.monotonic()
            PARTS[name](results, Scale(options.seconds, options.rounds or ROUNDS.get(name, 3)))
            print(f"  ({name}: {time.monotonic() - began:.0f} s)", flush=True)
    print(f"{time.monotonic() - start:.0f} s")
    if not options.quick and not options.no_file:
        print(results.write(generator.NAME, merge=bool(options.only)))


if __name__ == "__main__":
    main()
