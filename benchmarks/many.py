"""1,000 issuers of two series on AWS and SQLite: a start, idle, and a signature against a store of one issuer."""

from __future__ import annotations

import argparse
import time

import generator
from running import service, sign_request
from table import Results, Scale

ISSUERS = 1000
ALGORITHMS = ("ES256", "ES384")
_SETTLED = 5.0
"""Seconds after a start in which the pages of the keys are made."""


def report(results: Results, scale: Scale, issuers: int = ISSUERS) -> None:
    """Measure a store of many issuers beside a store of one."""
    what = f"{issuers:,} issuers x {len(ALGORITHMS)} series"
    with service("aws", *ALGORITHMS) as one, service("aws", *ALGORITHMS, issuers=issuers) as many:
        text = f"{what}: start to ready, keys in the store"
        results.value("many_start_seconds", text, "5 s", many.started, "s", f"one issuer: {one.started:.2f} s")
        time.sleep(min(_SETTLED, scale.seconds * 2))
        idle = many.idle(scale.seconds * 5)
        results.value("many_idle_cpu_percent", f"{what}: CPU of an idle worker", "2 %", idle, "% of a core")
        results.value("many_memory_mb", f"{what}: resident memory", "", many.memory, "MB")
        cpu: dict[str, list[float]] = {"one": [], "many": []}
        for _ in range(scale.rounds):
            for name, running in (("one", one), ("many", many)):
                cpu[name].append(generator.sign(running, sign_request("ES256"), scale.seconds).cpu)
        text = f"SignJwt of one of {issuers:,} issuers / of a store of one, CPU"
        results.cpu_ratio("sign_many_vs_one", text, "1.05", cpu["many"], cpu["one"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--issuers", type=int, default=ISSUERS)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    results = Results()
    results.header()
    report(results, Scale(options.seconds, options.rounds), options.issuers)


if __name__ == "__main__":
    main()
