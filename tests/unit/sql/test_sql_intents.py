"""Intents and blocked providers in the store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from sealwright.keys.lifecycle import Key
from sealwright.keys.ports import Intent, Outcome, StoreState
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore

from .rows import NOW, intent, issuer_state, key, opened

HOUR = timedelta(hours=1)


@pytest.fixture
async def store(database: StoreSettings) -> AsyncIterator[SqlStore]:
    async with opened(database) as one:
        yield one


async def test_an_intent_is_read_as_it_was_written(store: SqlStore) -> None:
    whole = intent(
        1,
        asked_time=NOW,
        uri="x:1",
        public_key=b"p",
        made_time=NOW + HOUR,
        abandon_time=NOW + 2 * HOUR,
        outcome="found",
    )
    assert await store.add_intents(await issuer_state(store), [whole])
    assert list((await issuer_state(store)).intents) == [whole]
    changed = replace(whole, close_time=NOW, outcome=Outcome.SEVERAL)
    assert await store.change_intent(await issuer_state(store), changed)
    assert not (await issuer_state(store)).intents, "nothing remains to be done for it"


@pytest.mark.parametrize(
    ("changes", "awaited"),
    [({}, True), ({"uri": "x:1", "made_time": NOW}, True), ({"kid": "k"}, False), ({"abandon_time": NOW}, False)],
)
def test_an_intent_is_awaited_until_its_key_is_published_or_another_takes_its_place(
    changes: dict[str, Any], *, awaited: bool
) -> None:
    one: Intent = intent(1, **changes)
    assert one.awaited is awaited


async def test_f11_intents_that_have_not_become_a_key_are_counted_by_series_and_time(store: SqlStore) -> None:
    rows = [
        intent(1),
        intent(2, kid="kid-1", close_time=NOW),
        intent(3, abandon_time=NOW, close_time=NOW, outcome="deleted"),
        intent(4, series="other"),
        intent(5, create_time=NOW - HOUR),
    ]
    await store.add_intents(await issuer_state(store), rows)
    assert await store.unpublished("payments", "es256", NOW) == 2
    assert await store.unpublished("payments", "es256", NOW - HOUR) == 3
    assert await store.unpublished("payments", "other", NOW) == 1
    assert await store.unpublished("nobody", "es256", NOW) == 0


async def test_f12_accepting_another_store_ends_what_it_had_begun(store: SqlStore) -> None:
    await store.add_intents(await issuer_state(store), [intent(1), intent(2, abandon_time=NOW)])
    state = await store.read()
    assert await store.repair(state, [], {}, NOW)
    after = await store.read()
    assert not after.issuers["payments"].intents
    assert after.issuers["payments"].revision > state.issuers["payments"].revision


async def test_f56_one_transaction_revokes_blocks_and_gives_up_what_is_on_its_way(store: SqlStore) -> None:
    for name in ("payments", "refunds", "quiet"):
        await store.ensure_issuer(name, (await issuer_state(store)).limits)
    await store.publish(await issuer_state(store), [key(1), key(2, provider="gcp")], [])
    await store.publish(await issuer_state(store, "refunds"), [key(3, issuer="refunds")], [])
    await store.add_intents(await issuer_state(store), [intent(1), intent(2, provider="gcp")])
    before = await store.read()

    def decide(state: StoreState) -> Sequence[Key]:
        keys = [k for issuer in state.issuers.values() for k in issuer.keys]
        return [replace(k, revoke_time=NOW) for k in keys if k.provider == "aws"]

    given = await store.revoke_all("aws", decide)
    assert given.issuers == before.issuers
    after = await store.read()
    assert set(after.blocked) == {"aws"}
    assert after.revision == before.revision + 1
    revoked = {k.kid for issuer in after.issuers.values() for k in issuer.keys if k.revoke_time}
    assert revoked == {"kid-1", "kid-3"}
    assert {i.intent_id: i.awaited for i in after.issuers["payments"].intents} == {"intent-1": False, "intent-2": True}
    changed = {n for n, issuer in after.issuers.items() if issuer.revision != before.issuers[n].revision}
    assert changed == {"payments", "refunds"}
    assert (await store.revoke_all("aws", decide)).blocked == after.blocked
    assert (await store.read()).blocked == after.blocked, "the first time counts"
    assert [await store.unblock("aws"), await store.unblock("aws")] == [True, False]
    assert not (await store.read()).blocked


async def test_f56_if_the_decision_fails_nothing_is_written(store: SqlStore) -> None:
    await store.publish(await issuer_state(store), [key(1)], [])
    before = await store.read()

    def decide(_: StoreState) -> Sequence[Key]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await store.revoke_all("aws", decide)
    after = await store.read()
    assert (after.revision, after.blocked) == (before.revision, {})
