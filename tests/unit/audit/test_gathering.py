"""How long audit records gather before a sync."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.audit.gathering import BUSY, LONGEST_SECONDS, QUIET, Gathering


class Machine:
    """A process whose share of a processor a test decides."""

    def __init__(self) -> None:
        self.now = self.used = 0.0

    def go_on(self, share: float) -> None:
        self.now += 1.0
        self.used += share


def after(share: float, under_way: int = 10) -> float:
    machine = Machine()
    gathering = Gathering(lambda: machine.now, lambda: machine.used)
    machine.go_on(share)
    return gathering.seconds(under_way)


def test_nobody_waits_while_there_is_time_to_spare_and_one_that_is_alone_never_does() -> None:
    assert after(QUIET - 0.1) == 0
    assert after(1.5, under_way=1) == 0


def test_a_busy_process_gathers_for_the_longest_time() -> None:
    assert after(BUSY + 0.1) == after(3.0) == LONGEST_SECONDS
    assert after((QUIET + BUSY) / 2) == pytest.approx(LONGEST_SECONDS / 2)


@given(st.lists(st.floats(0, 4), min_size=1, max_size=20))
def test_the_newest_share_decides(shares: list[float]) -> None:
    machine = Machine()
    gathering = Gathering(lambda: machine.now, lambda: machine.used)
    for share in shares[:-1]:
        machine.go_on(share)
        gathering.seconds(2)
    machine.go_on(shares[-1])
    assert gathering.seconds(2) == pytest.approx(after(shares[-1]), abs=1e-9)
