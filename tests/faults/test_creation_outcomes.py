"""Creations that are answered late, twice, half or not at all, keys that cannot be seen yet, and keys of others with our tags."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from faults.creating import (
    CLOUDS,
    CREATE,
    DENIED,
    HALF,
    LOST,
    MISSING,
    READS,
    SEARCHES,
    SLOW,
    THROTTLED,
    Cloud,
    cloud,
    uris,
)
from sealwright.keys.lifecycle import QUEUE_LENGTH
from support.service import Service, running, until

every_cloud = pytest.mark.parametrize("at", CLOUDS, indirect=True)


@pytest.fixture
def at(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cloud]:
    with cloud(request.param, tmp_path) as one:
        yield one


async def complete(service: Service, at: Cloud) -> list[Any]:
    """Wait until the queue is full, and until the KMS has no enabled keys beside those in it. Return the keys."""

    async def done() -> bool:
        keys = await listed(service)
        return len(keys) == QUEUE_LENGTH and at.enabled() == uris(keys)

    await until(done)
    token = await service.sign()
    await service.verify(token.token)
    return await service.list_keys()


async def listed(service: Service) -> list[Any]:
    """Return the keys; none before the store has been read."""
    try:
        return await service.list_keys()
    except grpc.aio.AioRpcError:
        return []


async def full(service: Service) -> bool:
    """Return whether the queue is full."""
    return len(await listed(service)) == QUEUE_LENGTH


async def created(at: Cloud) -> bool:
    """Return whether the KMS has all keys; the service does not know it yet, and looks for them a second later."""
    return len(at.found()) == QUEUE_LENGTH


async def said(service: Service) -> bool:
    """Return whether the service says that keys cannot be created."""
    return "payments" in service.app.rotator.creation.failing


@every_cloud
@pytest.mark.parametrize("fault", [DENIED, MISSING], ids=["denied", "missing"])
async def test_f11_a_key_that_cannot_be_read_yet_is_the_only_one_of_its_intent(
    at: Cloud, fault: dict[str, Any]
) -> None:
    provider = at.provider
    at.arm(fault[provider], *READS[provider])
    async with running(at.document(), wait=False) as service:
        await until(lambda: said(service))
        # Until the service has come back to both keys several times.
        before = sum(map(at.calls, READS[provider]))

        async def asked_again() -> bool:
            return sum(map(at.calls, READS[provider])) >= before + 2 * QUEUE_LENGTH

        await until(asked_again)
        assert at.created == QUEUE_LENGTH
        assert all(i["uri"] and not i["abandon_time"] for i in at.intents())
        at.emulator.clear_faults()
        await complete(service, at)
        assert not await said(service)
    assert (at.created, len(at.found()), len(at.intents())) == (QUEUE_LENGTH, QUEUE_LENGTH, QUEUE_LENGTH)


@every_cloud
async def test_f11_a_restart_asks_for_the_key_that_was_created(at: Cloud) -> None:
    provider = at.provider
    at.arm(DENIED[provider], *READS[provider])
    async with running(at.document(), wait=False) as service:
        await until(lambda: said(service))
    searched = at.calls(SEARCHES[provider])
    at.emulator.clear_faults()
    async with running(at.document()) as service:
        await complete(service, at)
    assert at.created == QUEUE_LENGTH
    if provider == "aws":  # The others read by name what they create.
        assert at.calls(SEARCHES[provider]) - searched <= 1, "the URI was known, so nothing had to be searched for"


@every_cloud
@pytest.mark.parametrize("fault", [DENIED, THROTTLED], ids=["denied", "throttled"])
async def test_f11_a_refused_creation_is_repeated_for_the_same_intents(at: Cloud, fault: dict[str, Any]) -> None:
    provider = at.provider
    at.arm(fault[provider], CREATE[provider], times=4)
    async with running(at.document(), wait=False) as service:
        await complete(service, at)
    assert at.created == QUEUE_LENGTH + 4
    assert len(at.intents()) == QUEUE_LENGTH


@every_cloud
async def test_f11_the_keys_that_are_created_in_vain_are_bounded(at: Cloud) -> None:
    provider = at.provider
    # Each creation takes effect, its answer is lost, and no key ever shows.
    at.arm({"kind": "not_yet_visible"}, "*", seconds=3600)
    at.arm(LOST[provider], CREATE[provider])
    async with running(at.document(manage_timeout="200ms", max_unpublished_keys=6), wait=False) as service:

        async def given_up() -> bool:
            return "6 keys" in service.app.rotator.creation.failing.get("payments", "")

        await until(given_up)
        assert at.created == 6
        # A day later it may go on.
        at.emulator.clear_faults()
        at.emulator.advance_clock(3601)
        at.age(90_000)

        await until(lambda: full(service))


@every_cloud
async def test_f54_a_key_that_shows_up_late_is_deleted_and_another_one_signs(
    at: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    provider = at.provider
    at.arm({"kind": "not_yet_visible"}, "*", seconds=9.0, times=QUEUE_LENGTH)  # long after the search has given up
    at.arm(LOST[provider], CREATE[provider], times=QUEUE_LENGTH)
    with caplog.at_level(logging.INFO):
        async with running(at.document(), wait=False) as service:
            keys = await complete(service, at)
    late = [i for i in at.intents() if i["abandon_time"]]
    assert len(late) == QUEUE_LENGTH
    assert [i["outcome"] for i in late] == ["deleted"] * QUEUE_LENGTH
    assert len(at.found()) == 2 * QUEUE_LENGTH
    assert not {k.intent for k in at.found() if k.enabled} & {i["intent_id"] for i in late}
    assert not any(k.key_uri in caplog.text for k in keys)
    assert caplog.text.count("turned up late") == QUEUE_LENGTH


@every_cloud
async def test_f54_the_search_goes_on_after_a_restart(at: Cloud) -> None:
    provider = at.provider
    at.arm({"kind": "not_yet_visible"}, "*", seconds=60.0, times=QUEUE_LENGTH)
    at.arm(LOST[provider], CREATE[provider], times=QUEUE_LENGTH)
    async with running(at.document(), wait=False) as service:
        await until(lambda: full(service))
    assert len(at.enabled()) == 2 * QUEUE_LENGTH
    at.emulator.advance_clock(61)
    at.age(60)
    async with running(at.document()) as service:
        await complete(service, at)


@every_cloud
@pytest.mark.parametrize("fault", [LOST, HALF, SLOW], ids=["lost", "half", "late"])
async def test_f54_a_key_whose_answer_was_lost_half_or_late_is_adopted(at: Cloud, fault: dict[str, Any]) -> None:
    provider = at.provider
    at.arm(fault[provider], CREATE[provider], times=QUEUE_LENGTH)

    async def noted() -> bool:
        return all(i["outcome"] for i in at.intents())  # A key may be listed a moment before.

    async with running(at.document(manage_timeout="2s"), wait=False) as service:
        await complete(service, at)
        await until(noted)
    assert (at.created, len(at.found())) == (QUEUE_LENGTH, QUEUE_LENGTH)
    assert [i["outcome"] for i in at.intents()] == ["found"] * QUEUE_LENGTH


@every_cloud
async def test_f54_a_search_that_is_denied_is_not_taken_for_no_key(at: Cloud) -> None:
    provider = at.provider
    at.arm(LOST[provider], CREATE[provider], times=1)
    async with running(at.document(manage_timeout="30s"), wait=False) as service:
        await until(lambda: created(at))
        at.arm(DENIED[provider], SEARCHES[provider])
        await until(lambda: said(service))
        assert at.created == QUEUE_LENGTH
        at.emulator.clear_faults()
        await complete(service, at)
    assert (at.created, len(at.found())) == (QUEUE_LENGTH, QUEUE_LENGTH)


@every_cloud
async def test_f54_a_search_ends_after_a_day_and_leaves_the_rest_to_the_command(at: Cloud) -> None:
    provider = at.provider
    at.arm({"kind": "not_yet_visible"}, "*", seconds=200_000.0, times=QUEUE_LENGTH)
    at.arm(LOST[provider], CREATE[provider], times=QUEUE_LENGTH)
    async with running(at.document(), wait=False) as service:
        await until(lambda: full(service))
        at.age(90_000)

        async def closed() -> bool:
            return all(i["close_time"] for i in at.intents())

        await until(closed)
    assert [i["outcome"] for i in at.intents()].count("absent") == QUEUE_LENGTH


@every_cloud
async def test_f12_of_several_keys_of_an_intent_none_is_used_and_none_deleted(
    at: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    provider = at.provider
    at.arm(LOST[provider], CREATE[provider], times=QUEUE_LENGTH)
    async with running(at.document(manage_timeout="30s"), wait=False) as service:
        await until(lambda: created(at))
        ours = at.found()
        at.copy_tags(ours[0])
        at.emulator.clear_faults()

        await until(lambda: full(service))
        published = uris(await service.list_keys())
        await service.sign()
    suspects = {k.uri for k in at.found() if k.intent == ours[0].intent}
    assert len(suspects) == 2
    assert suspects <= set(at.enabled())
    assert not suspects & set(published)
    assert [i["outcome"] for i in at.intents() if i["intent_id"] == ours[0].intent] == ["several"]
    assert len([r for r in caplog.records if r.levelno == logging.CRITICAL]) == 1
    assert not any(uri in caplog.text for uri in suspects)


@every_cloud
async def test_f12_a_second_key_is_noticed_after_the_first_was_adopted(
    at: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    provider = at.provider
    at.arm(LOST[provider], CREATE[provider], times=QUEUE_LENGTH)
    async with running(at.document(manage_timeout="5s")) as service:
        keys = await complete(service, at)
        at.copy_tags(next(k for k in at.found()))

        async def noticed() -> bool:
            return any("several keys have" in r.getMessage() for r in caplog.records)

        await until(noticed)
        assert uris(await service.list_keys()) == uris(keys)
        assert len(at.enabled()) == QUEUE_LENGTH + 1


@every_cloud
async def test_f12_a_key_with_imported_material_is_neither_adopted_nor_deleted(
    at: Cloud, caplog: pytest.LogCaptureFixture
) -> None:
    provider = at.provider
    at.arm(LOST[provider], CREATE[provider], times=QUEUE_LENGTH)
    async with running(at.document(manage_timeout="30s"), wait=False) as service:
        await until(lambda: created(at))
        imported = at.found()
        for key in imported:
            at.mark_imported(key)
        at.emulator.clear_faults()

        await until(lambda: full(service))
        assert not set(uris(await service.list_keys())) & {k.uri for k in imported}
    assert {k.uri for k in imported} <= set(at.enabled())
    assert caplog.text.count("a key that the service did not create has the tags") == QUEUE_LENGTH


@pytest.mark.parametrize("at", ["gcp"], indirect=True)
async def test_f11_a_key_that_could_not_be_generated_is_replaced_at_once(at: Cloud) -> None:
    at.arm({"kind": "generation_failed"}, "*", times=QUEUE_LENGTH)
    async with running(at.document(), wait=False) as service:
        await complete(service, at)
    assert len(at.intents()) == 2 * QUEUE_LENGTH
    assert [k.enabled for k in at.found()].count(True) == QUEUE_LENGTH
