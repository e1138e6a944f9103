"""How busy a thread is."""

from __future__ import annotations

from sealwright.threads import BusyTime


def test_the_time_of_a_thread_is_read_from_the_system_or_from_its_clock() -> None:
    busy = BusyTime(clock=lambda: -1.0)
    before = busy.read()
    sum(range(3_000_000))
    assert before == -1.0 or busy.read() > before
    busy.close()
    assert busy.read() == -1.0
