"""Calls beyond what a worker has CPU for: few are refused too many, nobody is starved, and a flood that ends leaves no trace.

A simulated event loop serves the calls that were accepted in turns, and waits for a KMS in between.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sealwright.server.rpc.admission import (
    MOST,
    SPARE,
    UNDER_WAY,
    WAIT_SECONDS,
    WINDOW_SECONDS,
    WINDOWS,
    Admission,
)
from sealwright.turns import Turns

SIGNATURE, REFUSAL = 0.0004, 0.00004
"""What a call costs, in seconds of CPU."""
CAPACITY = 1 / SIGNATURE
STEP = 0.001


class Worker:
    """An event loop in simulated time."""

    def __init__(self, admission: Admission, kms: float = 0.0) -> None:
        self.admission = admission
        self.kms = kms
        self.ready: deque[tuple[float, str, str]] = deque()
        self.waiting: deque[tuple[float, float, str, str]] = deque()
        self.now = 0.0
        self.spare = 0.0
        self.served: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.waits: list[float] = []

    def run(self, seconds: float, rates: Mapping[str, float], other: float = 0.0) -> None:
        """Let callers make so many calls a second, while other work takes a share of the time."""
        self.served.clear()
        self.refused.clear()
        self.waits.clear()
        due = dict.fromkeys(rates, 0.0)
        end, window, used = self.now + seconds, self.now + WINDOW_SECONDS, 0.0
        while self.now < end:
            self.now += STEP
            self.spare = min(self.spare, 0.0) + STEP * (1 - other)
            before = self.spare
            for name, rate in rates.items():
                due[name] += rate * STEP
                while due[name] >= 1:
                    due[name] -= 1
                    self._arrive(name)
            self._serve()
            used += before - self.spare + STEP * other
            if self.now >= window:
                self.admission.look(min(used / WINDOW_SECONDS, 1.0), WINDOW_SECONDS)
                window, used = self.now + WINDOW_SECONDS, 0.0

    def _arrive(self, name: str) -> None:
        place = self.admission.admit(lambda: name)
        if place is None:
            self.refused[name] += 1
            self.spare -= REFUSAL
        else:
            self.waiting.append((self.now + self.kms, self.now, name, place))

    def _serve(self) -> None:
        while self.waiting and self.waiting[0][0] <= self.now:
            _, arrived, name, place = self.waiting.popleft()
            self.ready.append((arrived, name, place))
        while self.ready and self.spare > 0:
            arrived, name, place = self.ready.popleft()
            self.spare -= SIGNATURE
            self.served[name] += 1
            self.waits.append(self.now - arrived)
            self.admission.leave(place)

    def quantile(self, share: float) -> float:
        """Return how long a share of the calls waited at most."""
        return sorted(self.waits)[int(len(self.waits) * share)]


@pytest.mark.parametrize("kms", [0.0, 0.02, 0.2])
@pytest.mark.parametrize("factor", [1.2, 2.0, 3.0])
def test_most_of_the_capacity_serves_and_no_call_waits_long(factor: float, kms: float) -> None:
    worker = Worker(Admission(Turns()), kms)
    worker.run(1, {"a": 10})
    worker.run(3, {"a": CAPACITY * factor})
    worker.run(3, {"a": CAPACITY * factor})
    most = (1 - factor * CAPACITY * REFUSAL) / (SIGNATURE - REFUSAL)
    assert worker.served["a"] / 3 > 0.6 * most
    assert worker.quantile(0.99) < kms + WAIT_SECONDS


@pytest.mark.parametrize("kms", [0.0, 0.02, 0.2])
def test_nothing_is_refused_below_the_capacity_and_soon_nothing_after_a_flood(kms: float) -> None:
    worker = Worker(Admission(Turns()), kms)
    worker.run(3, {"a": 0.85 * CAPACITY})
    assert not worker.refused
    worker.run(3, {"a": 2 * CAPACITY})
    assert worker.refused
    worker.run(3, {"a": 0.5 * CAPACITY})
    worker.run(1, {"a": 0.85 * CAPACITY})
    assert not worker.refused
    assert not worker.admission.limited


@pytest.mark.parametrize("callers", [UNDER_WAY - 1, int(CAPACITY * WAIT_SECONDS) - 1])
def test_callers_that_keep_a_worker_busy_and_wait_for_their_answers_are_no_overload(callers: int) -> None:
    admission = Admission(Turns())
    places = deque(admission.admit(lambda: "a") for _ in range(callers))
    for _ in range(50):
        for _ in range(int(CAPACITY * WINDOW_SECONDS)):
            place = places.popleft()
            assert place is not None
            admission.leave(place)
            places.append(admission.admit(lambda: "a"))
        admission.look(1.0, WINDOW_SECONDS)
    assert not admission.limited


def test_a_kms_that_does_not_answer_is_no_overload_while_there_is_time_to_spare() -> None:
    admission = Admission(Turns())
    for _ in range(1000):
        assert admission.admit(lambda: "a") is not None
        admission.look(SPARE - 0.01, WINDOW_SECONDS)
    assert not admission.limited


def test_calls_under_way_are_bounded_even_if_they_only_wait() -> None:
    admission = Admission(Turns())
    places = [admission.admit(lambda: "a") for _ in range(MOST)]
    assert None not in places
    assert admission.admit(lambda: "b") is None
    admission.leave("")
    assert admission.admit(lambda: "b") is not None


def test_one_caller_that_floods_takes_nothing_from_those_that_ask_for_less_than_their_share() -> None:
    worker = Worker(Admission(Turns()), 0.02)
    rates = {"loud": 1.5 * CAPACITY, "quiet": 0.1 * CAPACITY, "middle": 0.2 * CAPACITY}
    worker.run(3, rates)
    worker.run(3, rates)
    assert worker.refused["quiet"] + worker.refused["middle"] <= 0.01 * sum(worker.served.values())
    assert worker.refused["loud"] > worker.served["loud"]


def test_a_caller_that_comes_in_a_flood_is_served() -> None:
    worker = Worker(Admission(Turns()))
    worker.run(3, {"loud": 2.5 * CAPACITY})
    worker.run(1, {"loud": 2.5 * CAPACITY, "new": 20})
    assert worker.served["new"] >= 15
    assert worker.refused["new"] <= 2


def test_turns_are_limited_while_there_is_an_overload() -> None:
    turns = Turns()
    worker = Worker(Admission(turns))
    worker.run(1, {"a": 0.85 * CAPACITY})
    assert not turns.limited
    worker.run(1, {"a": 2 * CAPACITY})
    assert turns.limited
    worker.run(3, {"a": 0.5 * CAPACITY})
    assert not turns.limited


def overloaded(callers: int = 2 * UNDER_WAY) -> Admission:
    """Return an admission in an overload by one caller, whose calls do not end."""
    admission = Admission(Turns())
    for _ in range(callers):
        admission.admit(lambda: "flood")
    for _ in range(WINDOWS):
        admission.look(1.0, WINDOW_SECONDS)
    return admission


def test_other_work_of_the_event_loop_refuses_nobody_at_once_and_never_everybody() -> None:
    admission = Admission(Turns())
    for _ in range(2 * UNDER_WAY):
        admission.admit(lambda: "a")
    for _ in range(WINDOWS - 1):
        admission.look(1.0, WINDOW_SECONDS)
    assert not admission.limited
    worker = Worker(overloaded())
    worker.run(3, {"a": 20}, other=0.99)
    assert not worker.refused


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from("abcdef"), st.floats(1, 3 * CAPACITY), max_size=6), min_size=1, max_size=4)
)
def test_whatever_comes_it_recovers(phases: list[dict[str, float]]) -> None:
    worker = Worker(Admission(Turns()), 0.01)
    for rates in phases:
        worker.run(0.5, rates)
    worker.run(4, {"a": 100})
    worker.run(0.5, {"a": 100, "b": 10})
    assert not worker.refused
    assert worker.admission._under_way <= 2
    assert sum(worker.admission._of_caller.values()) == 0


def test_more_callers_than_are_counted_apart_share_one_share() -> None:
    admission = overloaded()
    names = map(str, range(5000))
    admitted = sum(admission.admit(lambda: next(names)) is not None for _ in range(5000))
    assert 1024 <= admitted < 1200
