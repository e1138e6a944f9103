"""F16: what the store knows of clocks, and how all of its times move when a clock was set."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sealwright.keys.ports import ClockRecord, Replica
from sealwright.sql.settings import StoreSettings

from .rows import LIMITS, NOW, intent, issuer_state, key, opened

HOURS = timedelta(hours=2)


def record(boot: str, zero: timedelta = timedelta(), *, sure: bool = True) -> ClockRecord:
    return ClockRecord(boot_id=boot, zero=NOW + zero, seen_time=NOW + zero, sure=sure)


async def test_f16_each_boot_has_its_record_and_a_doubtful_one_keeps_the_anchor(database: StoreSettings) -> None:
    replica = Replica(replica_id="a", revision=1, start_time=NOW, seen_time=NOW)
    async with opened(database) as store:
        await store.heartbeat(replica)
        assert (await store.read()).clocks == ()
        for one in (record("first"), record("second"), record("second", HOURS, sure=False)):
            await store.heartbeat(replica, one)
        first, second = sorted((await store.read()).clocks, key=lambda c: c.boot_id)
        assert first == record("first")
        assert (second.zero, second.seen_time) == (NOW, NOW + HOURS)
        await store.farewell("a", NOW, record("second", HOURS))
        assert {c.zero for c in (await store.read()).clocks} == {NOW, NOW + HOURS}
        assert not await store.replicas(NOW)


@pytest.mark.parametrize("jump", [HOURS, -HOURS])
async def test_f16_a_settled_jump_moves_every_time_once(database: StoreSettings, jump: timedelta) -> None:
    later = NOW + timedelta(hours=1)
    async with opened(database) as store:
        retired = key(1, retire_time=NOW, withdraw_time=later, ready_time=NOW, destroy_due_time=later)
        ends: dict[str, Any] = {"disable_time": NOW, "destroy_due_time": NOW, "destroy_time": NOW}
        withdrawn = key(2, retire_time=NOW, withdraw_time=NOW, revoke_time=NOW, **ends)
        await store.publish(await issuer_state(store), [retired, withdrawn, key(3, ready_time=later)], [])
        await store.add_intents(await issuer_state(store), [intent(1)])
        await store.heartbeat(Replica(replica_id="a", revision=1, start_time=NOW, seen_time=NOW), record("old"))
        before = await store.read()
        settled = ClockRecord(boot_id="new", zero=NOW, seen_time=NOW + jump)
        assert await store.settle_clock(before, jump, settled)
        assert not await store.settle_clock(before, jump, settled), "another replica was quicker"
        after = await store.read()
    issuer = after.issuers["payments"]
    one, two, three = issuer.keys
    moved = NOW + jump
    assert (one.publish_time, one.ready_time, one.retire_time) == (moved, moved, moved)
    assert one.withdraw_time == max(later, later + jump), "tokens from before the clock went back live on"
    assert one.destroy_due_time == one.withdraw_time
    assert (two.withdraw_time, two.revoke_time, two.destroy_time) == (moved, moved, moved)
    assert (two.disable_time, two.destroy_due_time) == (moved, moved)
    assert (three.ready_time, three.withdraw_time) == (later + jump, None)
    assert issuer.first_publish_time == moved
    assert issuer.limits.max_lifetime == LIMITS.max_lifetime + max(timedelta(), -jump)
    assert issuer.intents[0].claim_expire_time == intent(1).claim_expire_time + jump
    # Other hosts have seen the same jump: that their anchor has moved tells them that it is settled.
    assert set(after.clocks) == {settled, record("old", jump)}
    assert (before.moves, after.moves) == (timedelta(), jump)
    assert after.revision > before.revision
    assert issuer.revision > before.issuers["payments"].revision


async def test_i12_the_moves_add_up_and_a_record_from_before_one_is_not_kept(database: StoreSettings) -> None:
    """A host that has not read the move yet would leave a time that others, which start later, take for a newer one."""
    replica = Replica(replica_id="a", revision=1, start_time=NOW, seen_time=NOW)
    async with opened(database) as store:
        await store.heartbeat(replica, record("one"))
        for jump in (-HOURS, timedelta(seconds=3), HOURS):
            before = await store.read()
            assert await store.settle_clock(before, jump, record("other", sure=True))
            after = await store.read()
            assert after.moves == before.moves + jump
            for late in (replace(record("one", 9 * HOURS), moves=before.moves), record("new", 9 * HOURS)):
                await store.heartbeat(replica, late)
                await store.farewell("a", NOW, late)
            assert (await store.read()).clocks == after.clocks
        await store.heartbeat(replica, replace(record("one", HOURS), moves=timedelta(seconds=3)))
        assert record("one", HOURS) in (await store.read()).clocks
