"""Calls beyond what a worker has CPU for: few are refused too many, nobody is starved, and a flood that ends leaves no trace.

A simulated event loop takes one call in each turn, as gRPC's does: a refusal costs it much less than a signature, and what it
cannot take waits in a queue that it does not see.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright.errors import Code
from sealwright.server.rpc.admission import BUSY, WAIT_SECONDS, WAITING, WINDOW_SECONDS, WINDOWS, Admission, BusyTime

SIGNATURE, REFUSAL = 0.0006, 0.00013
"""What a call costs, in seconds of CPU."""
CAPACITY = 1 / SIGNATURE
STEP = 0.001
TIMEOUT = 10.0
"""Seconds that each caller gives its calls."""


class Worker:
    """An event loop in simulated time."""

    def __init__(self, admission: Admission) -> None:
        self.admission = admission
        self.queue: deque[tuple[float, str]] = deque()
        self.now = 0.0
        self.owed: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.waits: list[float] = []

    def run(self, seconds: float, rates: Mapping[str, float], other: float = 0.0) -> None:
        """Let callers make so many calls a second, while other work takes a share of the time."""
        self.served.clear()
        self.refused.clear()
        self.waits.clear()
        due = dict.fromkeys(rates, 0.0)
        end, window, spare, busy = self.now + seconds, self.now + WINDOW_SECONDS, 0.0, 0.0
        while self.now < end:
            self.now += STEP
            for name, rate in rates.items():
                due[name] += rate * STEP
                while due[name] >= 1:
                    due[name] -= 1
                    self.queue.append((self.now, name))
            spare += STEP * (1 - other)
            used = 0.0
            while self.queue and spare > 0:
                cost = self._take()
                spare -= cost
                used += cost
            if not self.queue:
                spare = min(spare, 0.0)
            busy += used + STEP * other
            if self.now >= window:
                self.admission.look(min(busy / WINDOW_SECONDS, 1.0), WINDOW_SECONDS)
                window, busy = self.now + WINDOW_SECONDS, 0.0

    def _take(self) -> float:
        arrived, name = self.queue.popleft()
        self.waits.append(self.now - arrived)
        self.admission.note(name, "SignJwt", TIMEOUT - (self.now - arrived))
        error = self.admission.refusal(lambda: name)
        if error is None:
            self.served[name] += 1
            return SIGNATURE
        assert error.code is Code.RESOURCE_EXHAUSTED
        assert error.retry_after
        self.refused[name] += 1
        return REFUSAL


@pytest.mark.parametrize("factor", [1.2, 2.0, 3.0])
def test_most_of_the_capacity_serves_and_no_call_waits_long(factor: float) -> None:
    worker = Worker(Admission())
    worker.run(1, {"a": 10})
    worker.run(3, {"a": CAPACITY * factor})
    worker.run(3, {"a": CAPACITY * factor})
    most = (1 - factor * CAPACITY * REFUSAL) / (SIGNATURE - REFUSAL)
    assert worker.served["a"] / 3 > 0.6 * most
    assert sorted(worker.waits)[len(worker.waits) // 2] < WAIT_SECONDS
    assert sorted(worker.waits)[len(worker.waits) * 99 // 100] < 2 * WAIT_SECONDS


def test_nothing_is_refused_below_the_capacity_and_soon_nothing_after_a_flood() -> None:
    worker = Worker(Admission())
    worker.run(3, {"a": 0.85 * CAPACITY})
    assert not worker.refused
    worker.run(3, {"a": 2 * CAPACITY})
    assert worker.refused
    worker.run(2, {"a": 0.5 * CAPACITY})
    worker.run(1, {"a": 0.85 * CAPACITY})
    assert not worker.refused
    assert not worker.admission.limited


@pytest.mark.parametrize("wait", [0.02, 0.3, 3.0])
def test_many_callers_who_each_wait_for_an_answer_are_no_overload(wait: float) -> None:
    admission, callers = Admission(), 100
    admission.note("a", "SignJwt", TIMEOUT)
    for _ in range(50):
        for _ in range(int(callers / wait * WINDOW_SECONDS)):
            admission.note("a", "SignJwt", TIMEOUT - wait)
            assert admission.refusal(lambda: "a") is None
        admission.look(1.0, WINDOW_SECONDS)
    assert not admission.limited


def test_deadlines_that_differ_are_no_overload_while_there_is_time_to_spare() -> None:
    admission = Admission()
    for n in range(5000):
        admission.note("a", "SignJwt", float(n % 7))
        if n % 50 == 0:
            admission.look(BUSY - 0.01, WINDOW_SECONDS)
    assert not admission.limited


def test_another_deadline_is_no_wait() -> None:
    admission = Admission()
    for n in range(100):
        for number in range(150):
            admission.note("a", "SignJwt", 60.0 if n % 10 == 0 and number == 0 else 1.0)
            assert admission.refusal(lambda: "a") is None
        admission.look(1.0, WINDOW_SECONDS)
    assert not admission.limited


def test_one_caller_that_floods_takes_nothing_from_those_that_ask_for_less_than_their_share() -> None:
    worker = Worker(Admission())
    rates = {"loud": 1.5 * CAPACITY, "quiet": 0.1 * CAPACITY, "middle": 0.2 * CAPACITY}
    worker.run(3, rates)
    worker.run(3, rates)
    assert worker.refused["quiet"] + worker.refused["middle"] <= 0.05 * sum(worker.served.values())
    assert worker.refused["loud"] > worker.served["loud"]


def test_a_caller_that_comes_in_a_flood_is_served() -> None:
    worker = Worker(Admission())
    worker.run(3, {"loud": 2.5 * CAPACITY})
    worker.run(1, {"loud": 2.5 * CAPACITY, "new": 20})
    assert worker.served["new"] >= 15
    assert worker.refused["new"] <= 2


def test_other_work_of_the_event_loop_refuses_nobody_at_once_and_never_everybody() -> None:
    admission = Admission()
    admission.note("connection", "SignJwt", TIMEOUT)
    for _ in range(WINDOWS - 1):
        waited(admission)
    assert not admission.limited
    worker = Worker(admission)
    worker.run(3, {"a": 50}, other=0.99)
    assert not worker.refused


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.floats(1, 3 * CAPACITY), max_size=6), min_size=1, max_size=4)
)
def test_whatever_comes_it_recovers(phases: list[dict[str, float]]) -> None:
    worker = Worker(Admission())
    for rates in phases:
        worker.run(0.5, rates)
    worker.queue.clear()
    worker.run(2, {"a": 100})
    worker.run(0.5, {"a": 100, "b": 10})
    assert not worker.refused


def waited(admission: Admission) -> None:
    """Let a window pass in which the event loop was busy, and calls waited for a second, which is long ago enough."""
    if not admission._wait:
        admission.look(0.0, 1.0)
    for _ in range(int(2 * WAITING * WINDOW_SECONDS)):
        admission.note("connection", "SignJwt", TIMEOUT - 1)
    admission.look(BUSY, WINDOW_SECONDS)


def test_more_callers_than_are_counted_apart_share_one_share() -> None:
    admission = Admission()
    admission.note("connection", "SignJwt", TIMEOUT)
    for _ in range(WINDOWS):
        waited(admission)
    names = map(str, range(5000))
    admitted = sum(admission.refusal(lambda: next(names)) is None for _ in range(5000))
    assert 1024 <= admitted < 1100


def test_the_time_of_a_thread_is_read_from_the_system_or_from_its_clock() -> None:
    busy = BusyTime(clock=lambda: -1.0)
    before = busy.read()
    sum(range(3_000_000))
    assert before == -1.0 or busy.read() > before
    busy.close()
    assert busy.read() == -1.0
