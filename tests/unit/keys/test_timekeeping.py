"""I12: what a read tells of the store's clock."""

from __future__ import annotations

from datetime import timedelta

import pytest

from sealwright.keys.ports import ClockRecord
from sealwright.keys.timekeeping import Timekeeper, moved_clock

from .history import EPOCH, span

TOLERANCE = 5


def keeper() -> Timekeeper:
    return Timekeeper(span(TOLERANCE))


@pytest.mark.parametrize("sample", [0, 3, 7])
def test_i12_a_slow_first_read_is_not_taken_for_a_jump(sample: int) -> None:
    """The store may have read its clock at any time during the read."""
    slow = keeper()
    slow.read(EPOCH + span(sample), started=0, ended=7)
    assert slow.rough
    slow.read(EPOCH + span(8), started=8, ended=8)
    assert slow.jump is None
    assert (slow.anchor, slow.rough) == (EPOCH, False)
    slow.read(EPOCH + span(9 + TOLERANCE + 1), started=9, ended=9)
    assert slow.jump == span(TOLERANCE + 1)


def test_i12_slow_reads_do_not_drag_the_anchor() -> None:
    slow = keeper()
    slow.read(EPOCH, started=0, ended=0)
    for hour in range(1, 200):
        slow.read(EPOCH + span(hour * 3600), started=hour * 3600, ended=hour * 3600 + 900)
    assert (slow.anchor, slow.jump) == (EPOCH, None)


def test_f16_a_clock_that_runs_at_another_rate_is_followed() -> None:
    following = keeper()
    for hour in range(200):
        time = hour * 3600 * (1 + 100e-6)
        following.read(EPOCH + timedelta(seconds=time), started=hour * 3600, ended=hour * 3600)
        assert following.jump is None


@pytest.mark.parametrize("jump", [60, -60])
def test_i12_a_jump_that_another_host_has_settled_is_followed_and_another_record_is_not(jump: int) -> None:
    one = keeper()
    one.read(EPOCH + span(100), started=100, ended=100)
    moved = ClockRecord(boot_id="one", zero=EPOCH + span(jump), seen_time=EPOCH + span(100 + jump))
    one.adopt(moved, None)
    one.read(EPOCH + span(110), started=110, ended=110)
    assert (one.jump, one.anchor) == (None, EPOCH), "the store's clock has not jumped here"
    one.adopt(None, None)
    one.read(EPOCH + span(120 + jump), started=120, ended=120)
    assert one.jump == span(jump)
    one.adopt(moved, None)
    one.read(EPOCH + span(130 + jump), started=130, ended=130)
    assert one.jumped_for(130) == 0
    assert one.now(130) == EPOCH + span(130 + jump)


@pytest.mark.parametrize("jump", [60, -60])
def test_i12_a_host_without_a_record_learns_that_a_jump_is_settled(jump: int) -> None:
    """It would move all times once more: after a jump back, keys would sign early by as much."""
    one = keeper()
    one.read(EPOCH + span(100), started=100, ended=100)
    one.read(EPOCH + span(110 + jump), started=110, ended=110)
    assert one.jump == span(jump)
    one.adopt(None, None, span(jump))
    one.read(EPOCH + span(120 + jump), started=120, ended=120)
    assert one.jumped_for(120) == 0
    assert one.now(120) == EPOCH + span(120 + jump)
    one.read(EPOCH + span(130), started=130, ended=130)
    assert one.jump == span(-jump), "that is another jump"
    one.adopt(None, None, span(0))
    one.read(EPOCH + span(140), started=140, ended=140)
    assert one.jumped_for(140) == 0
    assert one.now(140) == EPOCH + span(140)


@pytest.mark.parametrize("jump", [60, -60])
def test_i12_a_host_that_started_after_a_jump_stays_as_it_is_when_that_is_settled(jump: int) -> None:
    young = keeper()
    young.read(EPOCH + span(10 + jump), started=10, ended=10)
    young.adopt(None, None, span(jump))
    for second in (20, 30):
        young.read(EPOCH + span(second + jump), started=second, ended=second)
        assert (young.jump, young.now(second)) == (None, EPOCH + span(second + jump))


@pytest.mark.parametrize(("seen", "moved"), [(100, 60), (100 + 60, 0)])
def test_i12_the_record_of_a_host_that_started_after_a_jump_does_not_move(seen: int, moved: int) -> None:
    record = ClockRecord(boot_id="one", zero=EPOCH, seen_time=EPOCH + span(seen))
    assert moved_clock(record, span(60), EPOCH + span(101)).zero == EPOCH + span(moved)
    back = moved_clock(record, span(-60), EPOCH + span(101))
    assert back.zero == EPOCH - span(60)


@pytest.mark.parametrize("error", [-3600, 3600])
def test_i12_a_host_whose_first_read_contradicts_its_own_clock_goes_by_the_earlier_one(error: int) -> None:
    """Nothing says which one is right. Nothing is signed; a key that either of them still needs is published."""
    young = keeper()
    for second in (10, 20):
        wall = EPOCH + span(second + error)
        young.read(EPOCH + span(second), started=second, ended=second, wall=wall)
        assert (young.anchor, young.jump) == (None, None)
        assert young.now(second) == EPOCH + span(second + min(error, 0))
    young.read(EPOCH + span(30), started=30, ended=30, wall=EPOCH + span(30))
    assert (young.anchor, young.now(30)) == (EPOCH, EPOCH + span(30))
    young.read(EPOCH + span(40), started=40, ended=40, wall=EPOCH + span(40 + error))
    assert (young.jump, young.now(40)) == (None, EPOCH + span(40)), "a host that knows the store's clock goes by that"


def test_i12_a_machine_that_has_just_started_learns_that_a_jump_back_is_settled() -> None:
    young = keeper()
    young.adopt(None, EPOCH + span(1000))
    young.read(EPOCH + span(940), started=5, ended=5)
    assert young.jump == span(-60)
    young.adopt(None, EPOCH + span(941))
    young.read(EPOCH + span(942), started=7, ended=7)
    assert young.jumped_for(7) == 0
    assert young.now(7) == EPOCH + span(942)
