"""What people are told of verifiers that pay no heed to Cache-Control, and what is done for them (F63)."""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sealwright.v1 import keys_pb2
from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer, series
from support.service import Service, running, until

SETTLING = timedelta(hours=12, minutes=31)
"""verifier_refresh, S, A, E and K by default."""


def time_of(key: Any, name: str) -> datetime:
    return getattr(key, name).ToDatetime(UTC)  # type: ignore[no-any-return]


def older(directory: Path, hours: float) -> None:
    """Let all keys have been published and ready for longer, and let there have been a set before them."""
    past = round(hours * 3600e6)
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as store:
        store.execute("UPDATE keys SET publish_time = publish_time - ?, ready_time = ready_time - ?", (past, past))
        store.execute("UPDATE issuers SET first_publish_time = 0, revision = revision + 1")
        store.execute("UPDATE deployment SET revision = revision + 1")
        store.commit()


async def settled_in(service: Service, hours: float) -> bool:
    keys = await service.list_keys()
    age = datetime.now(UTC) - time_of(keys[0], "publish_time")
    return age >= timedelta(hours=hours)


async def test_f63_the_keys_of_the_first_set_have_settled_at_once(service: Service) -> None:
    for key in await service.list_keys():
        assert key.settle_time == key.publish_time


async def test_f63_a_new_series_in_first_place_waits_for_verifiers_that_look_seldom(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    old = series(name="old")
    async with running(document(tmp_path, emulator.endpoint, issuer(series=[old]))) as service:
        before = (await service.sign()).kid
    both = issuer(series=[series(name="new"), old])
    async with running(document(tmp_path, emulator.endpoint, both)) as service:

        async def scheduled() -> bool:
            keys = [k for k in await service.list_keys() if k.series == "new"]
            return len(keys) == 2 and all(k.HasField("ready_time") for k in keys)

        await until(scheduled)
        for key in await service.list_keys():
            if key.series == "new":
                assert time_of(key, "ready_time") - time_of(key, "publish_time") == SETTLING
        assert (await service.sign()).kid == before


async def test_f63_a_plan_and_a_rotation_by_hand_say_who_may_refuse_the_key_and_for_how_long(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint)) as service:
        older(tmp_path, 2)
        await until(lambda: settled_in(service, 2))
        standby = (await service.list_keys())[1]
        assert time_of(standby, "settle_time") - time_of(standby, "publish_time") == SETTLING
        for dry_run in (True, False):
            request = keys_pb2.RotateKeysRequest(issuer="issuers/payments", validate_only=dry_run)
            answer = await service.keys.RotateKeys(request)
            (warning,) = answer.warnings
            assert standby.kid in warning
            for time in (time_of(standby, "publish_time"), time_of(standby, "settle_time")):
                assert time.isoformat(timespec="seconds").replace("+00:00", "Z") in warning
            assert "up to 5 minutes" in warning
        assert (await service.sign()).kid == standby.kid, "a rotation by hand does what it was asked to do"


async def test_f63_a_key_that_has_settled_is_rotated_to_without_a_warning(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    async with running(document(tmp_path, emulator.endpoint)) as service:
        older(tmp_path, 13)
        await until(lambda: settled_in(service, 13))
        assert not (await service.keys.RotateKeys(keys_pb2.RotateKeysRequest(issuer="issuers/payments"))).warnings


async def test_f63_a_revocation_gives_both_times(service: Service) -> None:
    active = (await service.list_keys())[0]
    for dry_run in (True, False):
        done = await service.revoke(active.kid, validate_only=dry_run)
        now = datetime.now(UTC)
        obeying, others = (getattr(done, n).ToDatetime(UTC) for n in ("verifier_cache_until", "verifier_refresh_until"))
        assert timedelta(minutes=30) < obeying - now < timedelta(minutes=32)
        # 12 h, and 1 h of the "last known good" set.
        assert timedelta(hours=13, minutes=30) < others - now < timedelta(hours=13, minutes=32)


async def test_f63_fail_over_prefers_a_key_that_such_verifiers_have(tmp_path: Path, emulator: AwsEmulator) -> None:
    both = issuer(series=[series(name="first"), series(name="second")])
    async with running(document(tmp_path, emulator.endpoint, both)) as service:
        older(tmp_path, 2)
        await until(lambda: settled_in(service, 2))
        with contextlib.closing(sqlite3.connect(tmp_path / "state.db")) as store:
            past = round(20 * 3600e6)
            store.execute("UPDATE keys SET publish_time = publish_time - ? WHERE series = 'second'", (past,))
            store.execute("UPDATE issuers SET revision = revision + 1")
            store.execute("UPDATE deployment SET revision = revision + 1")
            store.commit()
        keys = {k.series: k for k in await service.list_keys() if k.state == keys_pb2.Key.STATE_ACTIVE}
        await service.revoke(keys["first"].kid)
        # The standby of the first series is ready, but young.
        assert (await service.sign()).kid == keys["second"].kid
