"""Counts in how many histories each broken rule loses a token, for `docs/decisions/0002-keys-in-time.md`.

Run it from the root of the repository: `PYTHONPATH=service python -m tests.unit.keys.figures 1000`.
"""

from __future__ import annotations

import sys

from .clock_jumps import MUTANTS as CLOCK_MUTANTS
from .clock_jumps import ClockFlaws, clock_history
from .history import SOUND
from .hosts import seeded_hosts
from .mutants import MUTANTS, seeded


def main(histories: int) -> None:
    """Print a line for each."""
    for name, flaws in {"sound": SOUND, **MUTANTS}.items():
        lost = sum(bool(seeded(seed, flaws)[1]) for seed in range(histories))
        on_hosts = sum(bool(seeded_hosts(seed, flaws)[1]) for seed in range(histories))
        sys.stdout.write(f"{name:45} {lost:5} of {histories}, on several hosts {on_hosts:5}\n")
    for name, clock_flaws in {"sound, with jumps of the clock": ClockFlaws(), **CLOCK_MUTANTS}.items():
        lost = sum(bool(clock_history(seed, clock_flaws)[1]) for seed in range(histories))
        sys.stdout.write(f"{name:45} {lost:5} of {histories}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
