"""How long audit records gather before a sync."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.audit.gathering import BESIDE, BUSY, LONGEST_SECONDS, QUIET, Gathering
from sealwright.threads import BusyTime


class Process(BusyTime):
    """A process of which a test decides how busy its event loop is, and how much of a processor all of it uses."""

    def __init__(self) -> None:
        self.now = self.busy = self.used = 0.0
        self.gathering = Gathering(lambda: self.now, self, lambda: self.used)
        self.gathering.seconds(2)

    def read(self) -> float:
        return self.busy

    def go_on(self, loop: float, process: float = 0.0) -> None:
        self.now += 1.0
        self.busy += loop
        self.used += process


def after(loop: float, process: float = 0.0, under_way: int = 10) -> float:
    made = Process()
    made.go_on(loop, process)
    return made.gathering.seconds(under_way)


def test_nobody_waits_while_the_loop_has_time_to_spare_and_one_that_is_alone_never_does() -> None:
    assert after(QUIET - 0.1) == 0
    assert after(QUIET - 0.1, process=QUIET + BESIDE - 0.01) == 0
    assert after(1.0, under_way=1) == 0


def test_a_busy_loop_gathers_for_the_longest_time() -> None:
    assert after(BUSY + 0.1) == after(3.0) == LONGEST_SECONDS
    assert after((QUIET + BUSY) / 2) == pytest.approx(LONGEST_SECONDS / 2)


def test_a_process_that_uses_more_than_a_processor_gathers_as_well() -> None:
    assert after(0.4, process=BUSY + BESIDE) == LONGEST_SECONDS


@given(st.lists(st.tuples(st.floats(0, 4), st.floats(0, 4)), min_size=1, max_size=20))
def test_the_newest_share_decides(shares: list[tuple[float, float]]) -> None:
    process = Process()
    for share in shares[:-1]:
        process.go_on(*share)
        process.gathering.seconds(2)
    process.go_on(*shares[-1])
    assert process.gathering.seconds(2) == pytest.approx(after(*shares[-1]), abs=1e-9)
