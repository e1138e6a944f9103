"""A million tokens: do memory, descriptors and threads stay as they are?

`make endurance`, or `.venv/bin/python benchmarks/endurance.py [--tokens 1000000] [--points 10]`. Batches make nine of ten tokens,
and SignJwt the others, on many connections that come and go. It prints the resident memory, the descriptors and the threads of the
service at each point. It fails if there are more descriptors or threads at the end than after the first point, or if memory grew by
more than a fifth from the middle to the end. The answers are checked like those of `make bench`.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import generator
from generator import Shape
from running import Service, end_cleanly, service, sign_request

BATCH = 32
SINGLE_SHARE = 0.1
_GROWTH = 1.2
_SPARE = 4
"""Descriptors and threads that may be open at one point and not at another: connections that are just ending."""


@dataclass(frozen=True)
class Point:
    """What the service holds."""

    tokens: int
    memory: float
    descriptors: int
    threads: int


def look(running: Service, tokens: int) -> Point:
    """Look at the service."""
    time.sleep(1)  # Connections of the last load end.
    process = Path(f"/proc/{running.running.popen.pid}")
    return Point(tokens, running.memory, len(list((process / "fd").iterdir())), len(list((process / "task").iterdir())))


def sign(running: Service, tokens: int) -> int:
    """Sign at least so many tokens, in batches and one by one. Return how many. The service may refuse calls of such a load."""
    request, made = sign_request("ES256"), 0
    while made < tokens:
        left = tokens - made
        single = round(left * SINGLE_SHARE) + 1
        made += generator.sign_count(running, request, single, Shape(32, 2))
        made += generator.sign_count(running, request, (left - single) // BATCH, Shape(8, 1, batch=BATCH))
    return made


def problems(points: list[Point]) -> list[str]:
    """Return what grew."""
    first, middle, last = points[0], points[len(points) // 2], points[-1]
    found = [
        f"{name} grew from {getattr(first, name)} to {getattr(last, name)}"
        for name in ("descriptors", "threads")
        if getattr(last, name) > getattr(first, name) + _SPARE
    ]
    if last.memory > middle.memory * _GROWTH:
        found.append(f"memory grew from {middle.memory:.0f} to {last.memory:.0f} MB")
    return found


def main() -> None:
    """Sign, and print what the service holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--points", type=int, default=10)
    options = parser.parse_args()
    end_cleanly()
    began, points, made = time.monotonic(), [], 0
    with service("aws", "ES256") as running:
        print(f"load: {generator.NAME}")
        print(f"{'tokens':>10} {'memory MB':>10} {'descriptors':>12} {'threads':>8} {'seconds':>8}")
        for n in range(options.points + 1):
            if n:
                made += sign(running, options.tokens * n // options.points - made)
            points.append(one := look(running, made))
            seconds = time.monotonic() - began
            print(f"{made:10,} {one.memory:10.1f} {one.descriptors:12} {one.threads:8} {seconds:8.0f}", flush=True)
    if found := problems(points[1:]):
        sys.exit("not flat: " + "; ".join(found))
    print("flat")


if __name__ == "__main__":
    main()
