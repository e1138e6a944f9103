"""F16: no jump of the clock lets a key sign early, drops a kid, or stops signing for longer than it takes to settle."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from .clock_jumps import MUTANTS, clock_history

HISTORIES = int(os.environ.get("SEALWRIGHT_PROPERTY_EXAMPLES", "200"))
SEARCH = 200


def test_f16_no_jump_of_the_clock_breaks_a_promise() -> None:
    seen: Counter[str] = Counter()
    for seed in range(HISTORIES):
        machine, broken = clock_history(seed)
        assert broken == [], seed
        seen.update(machine.seen)
    few = {
        k
        for k in ("jump", "back", "restart", "boot", "freeze", "settled", "rotation", "withdrawn")
        if seen[k] < HISTORIES
    }
    assert not few, seen


@pytest.mark.parametrize("name", MUTANTS)
def test_f16_a_broken_rule_of_the_clock_is_found_out(name: str) -> None:
    assert any(clock_history(seed, MUTANTS[name])[1] for seed in range(SEARCH))
