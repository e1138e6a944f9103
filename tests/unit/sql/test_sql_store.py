"""What the store holds, and that a read is one moment of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.dialects.sqlite import dialect

from sealwright.keys.lifecycle import Limits
from sealwright.keys.ports import Replica, StoreUnavailableError
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright.sql.tables import Span, UtcTime
from sealwright.sql.transactions import StoreConflictError

from .rows import LIMITS, NOW, intent, issuer_state, key, opened

MINUTE = timedelta(minutes=1)


@pytest.fixture
async def store(database: StoreSettings) -> AsyncIterator[SqlStore]:
    async with opened(database) as one:
        yield one


async def test_what_is_written_is_what_is_read(store: SqlStore) -> None:
    state = await issuer_state(store)
    times: dict[str, Any] = {
        f"{n}_time": NOW + i * MINUTE
        for i, n in enumerate(("ready", "retire", "withdraw", "revoke", "disable", "destroy_due", "destroy"))
    }
    whole, bare = key(1, public_key=bytes(range(256)), protection="hsm", **times), key(2)
    waiting = intent(1, uri="awskms:///made", public_key=b"\0\1", protection="software")
    assert await store.add_intents(state, [waiting, intent(2)])
    state = await issuer_state(store)
    assert await store.publish(state, [whole, bare], [replace(intent(2), kid="kid-2", close_time=NOW)])
    state = await issuer_state(store)
    assert list(state.keys) == [whole, bare]
    assert list(state.intents) == [waiting]
    assert state.first_publish_time == NOW
    assert state.limits == LIMITS


async def test_what_is_not_known_is_none_and_never_an_empty_text(store: SqlStore) -> None:
    unknown: dict[str, Any] = {"uri": None, "public_key": None, "kid": None}
    empty = intent(2, uri="", public_key=b"", kid="")
    assert await store.add_intents(await issuer_state(store), [intent(1, **unknown), empty])
    assert list((await issuer_state(store)).intents) == [intent(1, **unknown), replace(empty, **unknown)]
    for number, nothing in enumerate((b"", None), 1):
        assert await store.publish(await issuer_state(store), [key(number, public_key=nothing)], [])
    assert [k.public_key for k in (await issuer_state(store)).keys] == [None, None]


async def test_a_write_from_an_old_state_changes_nothing(store: SqlStore) -> None:
    old = await issuer_state(store)
    assert await store.add_intents(old, [intent(1)])
    before = await store.read()
    assert not await store.add_intents(old, [intent(2)])
    assert not await store.change_intent(old, intent(1, uri="awskms:///other"))
    assert not await store.publish(old, [key(1)], [intent(1, kid="kid-1")])
    assert not await store.change_keys(old, [key(1)])
    after = await store.read()
    assert (after.revision, after.issuers) == (before.revision, before.issuers)


async def test_each_write_moves_the_store_on_by_one_and_its_issuer_to_the_stores_revision(store: SqlStore) -> None:
    await issuer_state(store, "other")
    state = await issuer_state(store)
    revision, _ = await store.probe()
    assert await store.publish(state, [key(1)], [])
    whole = await store.read()
    assert whole.revision == (await store.probe())[0] == revision + 1
    assert whole.issuers["payments"].revision == revision + 1 > state.revision
    assert whole.issuers["other"].revision < state.revision
    assert await store.change_keys(whole.issuers["payments"], [key(1, ready_time=NOW)])
    assert (await store.probe())[0] == revision + 2


async def test_heartbeats_and_counts_do_not_change_the_revision(store: SqlStore) -> None:
    revision, _ = await store.probe()
    await store.heartbeat(Replica(replica_id="a", revision=1, start_time=NOW, seen_time=NOW))
    await store.add_token_counts({("kid", 10**9): 1})
    await store.farewell("a")
    assert (await store.probe())[0] == revision


async def test_publishing_is_all_or_nothing(store: SqlStore) -> None:
    await store.add_intents(await issuer_state(store), [intent(1), intent(2)])
    before = await store.read()
    twice = [key(1), key(2, kid="kid-1")]
    done = [replace(intent(n), kid="kid-1") for n in (1, 2)]
    with pytest.raises(StoreConflictError):
        await store.publish(before.issuers["payments"], twice, done)
    after = await store.read()
    assert (after.revision, after.issuers) == (before.revision, before.issuers)
    assert await store.publish(after.issuers["payments"], [key(1)], done[:1])


@pytest.mark.parametrize(
    "second", [{"kid": "kid-1"}, {"uri": "awskms:///key-1"}, {"ordinal": 1}, {"kid": "kid-1", "issuer": "other"}]
)
async def test_c26_a_second_key_in_the_place_of_another_is_refused_in_a_typed_way(
    store: SqlStore, second: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    await issuer_state(store, "other")
    assert await store.publish(await issuer_state(store), [key(1)], [])
    state = await issuer_state(store, second.get("issuer", "payments"))
    with pytest.raises(StoreUnavailableError, match="contradicts"):  # what rotation waits for, and does not die of
        await store.publish(state, [key(2, **second)], [])
    sqlite, postgresql = "UNIQUE constraint failed: keys.", "duplicate key value violates unique constraint"
    assert (sqlite in caplog.text) ^ (postgresql in caplog.text)
    assert "awskms" not in caplog.text, "what a key is called in the KMS is not logged"
    assert [k.kid for k in (await issuer_state(store)).keys] == ["kid-1"]


async def test_the_first_publish_time_is_set_once(store: SqlStore) -> None:
    assert (await issuer_state(store)).first_publish_time is None
    await store.publish(await issuer_state(store), [key(1, publish_time=NOW + MINUTE), key(2)], [])
    await store.publish(await issuer_state(store), [key(3, publish_time=NOW - MINUTE)], [])
    assert (await issuer_state(store)).first_publish_time == NOW


async def test_limits_are_only_ever_raised(store: SqlStore) -> None:
    lower = Limits(**dict.fromkeys(Limits.__dataclass_fields__, MINUTE))
    await store.ensure_issuer("payments", LIMITS)
    revision, _ = await store.probe()
    for weaker in (LIMITS, replace(LIMITS, max_age=timedelta()), lower):
        await store.ensure_issuer("payments", weaker)
        assert (await issuer_state(store)).limits == LIMITS.raised_to(weaker)
    assert (await store.probe())[0] == revision, "nothing was raised, so nothing was written"
    mixed = replace(lower, max_age=timedelta(hours=9), verifier_skew=timedelta(hours=2))
    await store.ensure_issuer("payments", mixed)
    assert (await store.read()).issuers["payments"].limits == LIMITS.raised_to(mixed)
    assert (await store.read()).issuers["payments"].revision == (await store.probe())[0] == revision + 1


async def test_a_write_computed_under_lower_limits_loses(store: SqlStore) -> None:
    old = await issuer_state(store)
    await store.ensure_issuer("payments", replace(LIMITS, max_lifetime=timedelta(days=9)))
    assert not await store.publish(old, [key(1)], [])


async def test_a_read_is_one_moment_even_if_others_write_during_it(database: StoreSettings) -> None:
    async with opened(database) as store, opened(database) as other:
        await store.add_intents(await issuer_state(store), [intent(1)])
        before = await store.read()
        between: list[str] = []

        @event.listens_for(store._engine, "after_cursor_execute")
        def _write(*args: Any) -> None:
            if "FROM issuers" in args[2] and not between:
                between.append("written")
                with other._engine.begin() as c:
                    c.exec_driver_sql("UPDATE issuers SET revision = revision + 1")
                    c.exec_driver_sql("UPDATE deployment SET revision = revision + 1")
                    c.exec_driver_sql("UPDATE intents SET kid = 'kid-1', close_time = 1")

        during = await store.read()
        assert between == ["written"]
        assert (during.revision, during.issuers) == (before.revision, before.issuers)
        after = await store.read()
        assert (after.revision, len(after.issuers["payments"].intents)) == (before.revision + 1, 0)


@given(
    st.datetimes(
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45)), timezone(-timedelta(hours=9))])
    )
)
def test_a_time_keeps_its_microseconds_in_any_zone(time: datetime) -> None:
    column = UtcTime()
    stored = column.process_bind_param(time, dialect())
    read = column.process_result_value(stored, dialect())
    assert read == time
    assert read is not None
    assert read.tzinfo is UTC


@given(st.timedeltas(min_value=timedelta(), max_value=timedelta(days=3650)))
def test_a_duration_keeps_its_microseconds(duration: timedelta) -> None:
    column = Span()
    assert column.process_result_value(column.process_bind_param(duration, dialect()), dialect()) == duration


async def test_a_time_without_a_zone_is_refused(store: SqlStore) -> None:
    with pytest.raises(StoreUnavailableError):
        await store.publish(await issuer_state(store), [key(1, publish_time=datetime(2026, 1, 1))], [])  # noqa: DTZ001 - that


async def test_the_stores_clock_goes_with_the_machines_in_utc(store: SqlStore) -> None:
    times = []
    for _ in range(20):
        earliest = datetime.now(UTC) - timedelta(milliseconds=1)  # the store's clock has whole milliseconds
        times.append((await store.probe())[1])
        assert earliest <= times[-1] <= datetime.now(UTC)
    assert times == sorted(times)
    assert any(t.microsecond for t in times)
    assert abs((await store.read()).time - datetime.now(UTC)) < timedelta(seconds=1)


async def test_issuers_do_not_see_each_others_keys(store: SqlStore) -> None:
    await store.publish(await issuer_state(store), [key(1)], [])
    await store.publish(await issuer_state(store, "other"), [key(2, "other")], [])
    issuers = (await store.read()).issuers
    assert {n: [k.kid for k in i.keys] for n, i in issuers.items()} == {"payments": ["kid-1"], "other": ["kid-2"]}


async def test_i12_looking_for_changes_costs_the_same_for_any_number_of_issuers(store: SqlStore) -> None:
    statements: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    costs = []
    for number in range(30):
        await store.ensure_issuer(f"issuer-{number}", LIMITS)
        statements.clear()
        await store.probe()
        costs.append(len(statements))
    assert len(set(costs)) == 1
    assert not [s for s in statements if "issuers" in s or "keys" in s]
