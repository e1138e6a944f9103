"""I12: scheduled rotations are spread: many series that began together do not rotate together, and none is ever too early."""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sealwright.keys import lifecycle
from sealwright.keys.due import next_time
from sealwright.keys.lifecycle import Key
from sealwright.keys.settings import SPREAD, share
from sealwright.keys.steps import Retire, SeriesPolicy, next_steps, rotation_time
from support.limits import LIMITS

START = datetime(2026, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LEAD = LIMITS.lead(HOUR)
SERIES = [(f"issuer-{i}", series) for i in range(1000) for series in ("es256", "rs256")]


def key(ordinal: int, published: datetime, ready: datetime) -> Key:
    return Key(
        kid=str(ordinal),
        issuer="payments",
        series="es256",
        ordinal=ordinal,
        algorithm="ES256",
        provider="aws",
        uri=str(ordinal),
        public_key=b"",
        publish_time=published,
        ready_time=ready,
    )


times = st.timedeltas(timedelta(), timedelta(days=100))


@given(
    st.floats(0, 1),
    st.timedeltas(timedelta(seconds=1), timedelta(days=400)),
    times,
    times,
    st.timedeltas(timedelta(), DAY),
)
def test_i12_a_rotation_that_is_moved_keeps_every_wait_and_stays_within_a_tenth(
    part: float, period: timedelta, head_ready: timedelta, published: timedelta, lead: timedelta
) -> None:
    head = key(1, START, START + head_ready)
    standby = key(2, START + published, START + published + lead)
    policy = SeriesPolicy(name="es256", rotation_period=period)
    plain = rotation_time([head, standby], policy, LIMITS)
    moved = rotation_time([head, standby], replace(policy, moved=SPREAD * part), LIMITS)
    assert plain is not None
    assert moved is not None
    assert moved >= START + published + LIMITS.scheduled_wait
    assert moved >= START + published + lead + LIMITS.verifier_skew
    microsecond = timedelta(microseconds=1)  # rounding
    assert plain - period * SPREAD - microsecond <= moved <= plain + LIMITS.scheduled_wait * SPREAD + microsecond


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_i12_the_share_of_a_series_is_a_number_between_0_and_1(deployment: str, issuer: str, series: str) -> None:
    assert 0 <= share(deployment, issuer, series) <= 1


def test_i12_the_share_is_the_same_on_every_replica_and_another_for_each_series_and_deployment() -> None:
    assert share("d", "payments", "es256") == 0.17790288812409116
    assert len({share("d", *names) for names in SERIES}) == len(SERIES)
    assert share("d", "a", "b-c") != share("d", "a-b", "c")
    assert share("d", "payments", "es256") != share("e", "payments", "es256")
    tenths = Counter(int(share("d", *names) * 10) for names in SERIES)
    assert min(tenths[n] for n in range(10)) > len(SERIES) / 10 * 0.7


def rotations(period: timedelta, days: int, *, spread: bool) -> list[datetime]:
    """Let all series begin at one instant, and drive the clock from step to step. Return when each rotated, in order."""
    done = []
    queue: list[tuple[datetime, int, SeriesPolicy, tuple[Key, ...]]] = []
    for number, names in enumerate(SERIES):
        policy = SeriesPolicy(
            name="es256", rotation_period=period, moved=SPREAD * share("d", *names) if spread else 0.0
        )
        heapq.heappush(queue, (START, number, policy, (key(1, START, START), key(2, START, START))))
    while queue[0][0] < START + days * DAY:
        now, number, policy, keys = heapq.heappop(queue)
        due = next_time(keys, [policy], LIMITS)
        assert due is not None
        now = max(now, due)
        steps = next_steps(keys, [policy], LIMITS, {}, now)
        (retire,) = (s for s in steps if isinstance(s, Retire))
        assert not [s for s in next_steps(keys, [policy], LIMITS, {}, now - HOUR) if isinstance(s, Retire)]
        done.append(now)
        head, standby = lifecycle.queue(keys, "es256")
        assert retire.kid == head.kid
        # The next key is created and published at once.
        new = key(standby.ordinal + 1, now, now + LEAD)
        heapq.heappush(queue, (now, number, policy, (replace(head, retire_time=now), standby, new)))
    return sorted(done)


@pytest.mark.parametrize(
    ("period", "days", "most"),
    [
        # A tenth of 30 days has 72 hours for 2,000 series.
        (30 * DAY, 400, 80),
        (7 * DAY, 60, 250),
        # Each waits for its standby for 24.5 hours, which is longer than the period, and a tenth of that is 2.4 hours.
        (HOUR, 6, 1600),
    ],
)
def test_i12_a_thousand_issuers_do_not_rotate_at_one_instant(period: timedelta, days: int, most: int) -> None:
    hours = Counter((t - START) // HOUR for t in rotations(period, days, spread=True))
    assert max(hours.values()) < most
    minutes = Counter((t - START) // timedelta(minutes=1) for t in rotations(period, days, spread=True))
    assert max(minutes.values()) < 60, "fewer keys a minute than the smallest quota"
    alike = Counter(rotations(period, days, spread=False))
    assert max(alike.values()) == len(SERIES), "without the spread they do"


def test_i12_a_rotation_by_hand_moves_the_next_scheduled_one_and_is_not_moved() -> None:
    policy = SeriesPolicy(name="es256", rotation_period=30 * DAY, moved=0.05)
    retired = replace(key(1, START, START), retire_time=START + 10 * DAY)
    keys = [retired, key(2, START, START), key(3, START + 10 * DAY, START + 10 * DAY + LEAD)]
    assert rotation_time(keys, policy, LIMITS) == START + 10 * DAY + 30 * DAY * 0.95
