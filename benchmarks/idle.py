"""What a worker costs that nobody calls: the time from its first start until it is ready, and its CPU while it is idle.

    python benchmarks/idle.py 1x1 30x2 300x2 1000x1

Each argument is a number of issuers and of series of each. Keys are in the emulated AWS KMS, with `retry` of the service as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.document import document, issuer, series
from support.processes import process, write_config

SECONDS = 30.0
ALGORITHMS = ("ES256", "ES384")


def cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def published(directory: Path) -> int:
    """Return how many keys are in the store."""
    query = (
        "import sqlite3, sys; print(sqlite3.connect(sys.argv[1]).execute('SELECT count(*) FROM keys').fetchone()[0])"
    )
    run = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", query, str(directory / "state.db")], capture_output=True, text=True, check=False
    )
    return int(run.stdout or 0)


def measure(issuers: int, kinds: int) -> str:
    """Start the service for the first time, wait until it is ready, and then watch it."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with process(directory, "sealwright-emulator", "aws", "--port", "0") as kms:
            tables = [issuer(f"issuer-{n}", series=[series(a) for a in ALGORITHMS[:kinds]]) for n in range(issuers)]
            config = document(directory, kms.ready["endpoint"], *tables, timing={"refresh_interval": "1s"})
            path = write_config(directory, config)
            began = time.monotonic()
            with process(directory, "sealwright", "serve", "--config", path, wait=False) as service:
                while published(directory) < 2 * issuers * kinds:
                    time.sleep(0.1)
                made = time.monotonic() - began
                used = cpu(service.popen.pid)
                time.sleep(5)
                before = cpu(service.popen.pid)
                time.sleep(SECONDS)
                idle = (cpu(service.popen.pid) - before) * 60 / SECONDS
    return f"{issuers} x {kinds}: all keys published after {made:.1f} s ({used:.1f} s of CPU); idle {idle:.2f} s of CPU a minute"


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        first, second = (int(part) for part in argument.split("x"))
        sys.stdout.write(measure(first, second) + "\n")
        sys.stdout.flush()
