"""Where the CPU time of SignJwt goes: ES256 on AWS, 64 calls in flight, as a table of shares.

`.venv/bin/python benchmarks/profile_signing.py [--seconds 20] [--py-spy PATH]` prints it. The kernel knows the CPU time of each
thread of the worker. py-spy (`pip install py-spy`, into another environment) knows the names of threads, and looks at the stacks of
the event loop's thread, which it stops for each of them: without that it misses most of what Python does. Each sample counts for
the part whose code is nearest to the top of the stack. A sample without any such code is the loop itself, and uvloop's C code.
Without py-spy, the table has the threads alone.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import generator
from benchmark_load import TICK
from running import Service, service, sign_request
from table import machine

LOOP = "event loop, sockets and uvloop's C code"
OTHERS = "other threads (the store)"
PARTS = (
    ("verifying the signature", r"jose/(signatures|key_kinds)\.py"),
    ("KMS client: SigV4, HTTP, TLS, JSON", r"sealwright_providers/|[(/ ]ssl\.py|hmac\.py"),
    ("guard of KMS calls", r"sealwright/kms/|asyncio/timeouts\.py"),
    ("audit: the record", r"sealwright/audit/"),
    ("metrics", r"sealwright/metrics|prometheus_client/"),
    ("policy, claims, keyring", r"sealwright/(signing\.py|jose/|access/|keys/|ids\.py|issuer_settings\.py|clock\.py)"),
    ("HTTP/2: frames, header fields, streams", r"sealwright/(server/)?http2/|hpack/"),
    ("gRPC: boundary, messages, answer", r"sealwright/server/rpc/|google/protobuf"),
)
"""A part, and what the file of one of its frames matches."""
THREADS = (
    ("audit: write and sync", r"sealwright-audit"),
    ("the store's thread", r"asyncio_\d|ThreadPoolExecutor"),
)
"""A thread other than the event loop's, and what its name matches."""
_SAMPLE = re.compile(r"thread \((\d+)\): ([^;]*);(.*) (\d+)$")


def part_of(stack: str) -> str:
    """Return the part that a stack is in, by the frame nearest to its top."""
    for frame in reversed(stack.split(";")):
        for part, pattern in PARTS:
            if re.search(pattern, frame):
                return part
    return LOOP


def samples(raw: str, loop: int) -> tuple[Counter[str], dict[int, str]]:
    """Read what py-spy wrote (`--format raw --threads`).

    Args:
        raw: The text.
        loop: The event loop's thread.

    Returns:
        How many samples of the event loop's thread are in each part, and the names of all threads.
    """
    found: Counter[str] = Counter()
    names: dict[int, str] = {}
    for match in filter(None, map(_SAMPLE.match, raw.splitlines())):
        thread = int(match[1])
        names[thread] = match[2]
        if thread == loop:
            found[part_of(match[3])] += int(match[4])
    return found, names


def thread_cpu(pid: int) -> dict[int, float]:
    """Return the seconds of CPU of each thread of a process."""
    used = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        fields = (task / "stat").read_text().rpartition(")")[2].split()
        used[int(task.name)] = (int(fields[11]) + int(fields[12])) / TICK
    return used


def shares(cpu: dict[int, float], loop: int, found: Counter[str], names: dict[int, str]) -> dict[str, float]:
    """Return the seconds of CPU of each part."""
    parts: Counter[str] = Counter()
    for thread, used in cpu.items():
        if thread == loop:
            total = found.total()
            for part, count in found.items() if total else [(LOOP, 1)]:
                parts[part] += used * count / (total or 1)  # type: ignore[assignment]
            continue
        name = names.get(thread, "")
        part = next((part for part, pattern in THREADS if re.search(pattern, name)), OTHERS)
        parts[part] += used  # type: ignore[assignment]
    return dict(parts)


def profile(running: Service, seconds: float, py_spy: str | None) -> tuple[int, dict[str, float], int]:
    """Watch the service under load. Return how many tokens it signed, the seconds of each part, and how many samples there are."""
    pid, request = running.running.popen.pid, sign_request("ES256")
    generator.sign(running, request, 0.5)
    with tempfile.TemporaryDirectory(prefix="sealwright-bench-") as folder:
        raw, before, watching = Path(folder, "raw"), thread_cpu(pid), None
        if py_spy:
            command = [py_spy, "record", "--threads", "--rate", "100", "--format", "raw"]
            command += ["--duration", str(max(1, round(seconds))), "--output", str(raw), "--pid", str(pid)]
            watching = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
        tokens = generator.sign(running, request, seconds).tokens
        after = thread_cpu(pid)
        if watching:
            watching.wait()
        text = raw.read_text() if raw.exists() else ""
    found, names = samples(text, pid)
    cpu = {thread: used - before.get(thread, 0) for thread, used in after.items()}
    return tokens, shares(cpu, pid, found, names), found.total()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--py-spy", default=shutil.which("py-spy"))
    options = parser.parse_args()
    with service("aws", "ES256") as running:
        tokens, parts, count = profile(running, options.seconds, options.py_spy)
    total = sum(parts.values())
    print(f"{tokens:,} tokens, {total / tokens * 1e6:.0f} µs each; {count} samples of the event loop; {machine()}")
    print(f"load: {generator.NAME}\n\n| part | share | µs |\n|---|---|---|")
    for part, seconds in sorted(parts.items(), key=lambda item: -item[1]):
        print(f"| {part} | {seconds / total:.0%} | {seconds / tokens * 1e6:.0f} |")


if __name__ == "__main__":
    main()
