"""Counts in how many histories each broken rule loses a token, for `docs/decisions/0002-keys-in-time.md`.

Run it from the root of the repository: `PYTHONPATH=service python -m tests.unit.keys.figures 1000`.
"""

from __future__ import annotations

import sys

from .history import SOUND
from .mutants import MUTANTS, seeded


def main(histories: int) -> None:
    """Print a line for each."""
    for name, flaws in {"sound": SOUND, **MUTANTS}.items():
        lost = sum(bool(seeded(seed, flaws)[1]) for seed in range(histories))
        sys.stdout.write(f"{name:45} {lost:5} of {histories}\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
