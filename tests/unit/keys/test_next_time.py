"""F60: between now and `next_time`, time alone makes no step due; then it makes one due."""

from __future__ import annotations

from sealwright.keys.due import next_time
from sealwright.keys.steps import SeriesPolicy, next_steps

from .history import EPOCH, span
from .mutants import seeded


def test_f60_nothing_is_due_before_the_next_time_and_something_is_then() -> None:
    checked = 0
    for seed in range(60):
        history, _ = seeded(seed)
        for row in history.rows:
            for period, destroy in ((None, None), (span(1), None), (span(50), span(20))):
                policies = [
                    SeriesPolicy(name=name, rotation_period=period, destroy_after=destroy)
                    for name in sorted({k.series for k in row.keys})
                ]

                def due(now: int, policies: list[SeriesPolicy] = policies, row: object = row) -> bool:
                    arguments = (row.keys, policies, row.limits, row.intents, EPOCH + span(now))  # type: ignore[attr-defined]
                    return bool(next_steps(*arguments))

                if due(row.time):
                    continue
                then = next_time(row.keys, policies, row.limits)
                if then is None:
                    assert not due(row.time + 10**8)
                else:
                    seconds = round((then - EPOCH).total_seconds())
                    assert seconds > row.time
                    assert not due(seconds - 1)
                    assert due(seconds)
                    checked += 1
    assert checked > 100
