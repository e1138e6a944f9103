"""I12: the promises to verifiers with a clock on each host and one of the store, which fails over to servers with others."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from .hosts import HOST_MUTANTS, HostLife, seeded_hosts
from .rules import broken_rows, stranded

HISTORIES = 10 * int(os.environ.get("SEALWRIGHT_PROPERTY_EXAMPLES", "200"))
SEARCH = 600
"""Histories within which a sum that lacks a term must lose a token."""

TERMS = [name for name in HOST_MUTANTS if name.startswith(("lead without", "tail without"))]
OTHERS = [
    "clock read before the store",
    "deadline written with its fact",
    "signs on a stale read",
    "no compare-and-swap",
    "any first read of the store's clock is followed",
]


@pytest.mark.timeout(60 + HISTORIES / 2)
def test_i12_every_released_token_verifies_with_the_clocks_of_several_hosts() -> None:
    seen: Counter[str] = Counter()
    looks: Counter[bool] = Counter()
    differ = 0
    for seed in range(HISTORIES):
        history, lost = seeded_hosts(seed)
        assert lost == [], seed
        assert list(broken_rows(history)) == [], seed
        assert list(stranded(history)) == [], seed
        seen.update(history.seen)
        hosts = [life for life in history.lives if isinstance(life, HostLife)]
        looks.update(s.able for host in hosts for s in host.segments)
        if not (any(host.tolerance for host in hosts) or history.seen.get("far ahead")):
            assert all(s.able for host in hosts for s in host.segments), f"{seed}: no clock is wrong"
        differ += len({host.error for host in hosts}) > 1
    kinds = (
        "failover",
        "far ahead",
        "Retire",
        "rotation by hand",
        "crash",
        "lost race",
        "limits raised",
        "SetWithdraw",
    )
    assert not {kind: seen[kind] for kind in kinds if seen[kind] < HISTORIES / 2}
    assert differ > HISTORIES / 3, "hosts must have different clocks"
    assert looks[True] > 2 * looks[False] > HISTORIES, "most reads are followed, and many are not"


@pytest.mark.parametrize("name", [*TERMS, *OTHERS])
def test_i12_a_sum_that_lacks_a_term_is_found_out_on_several_hosts(name: str) -> None:
    assert any(seeded_hosts(seed, HOST_MUTANTS[name])[1] for seed in range(SEARCH))
