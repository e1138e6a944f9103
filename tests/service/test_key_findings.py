"""Findings about keys: F20 to F23."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document, issuer, series
from support.service import Service, failure, running, until

DAY = 86_400_000_000
"""In microseconds, as the store counts."""


@contextlib.contextmanager
def database(directory: Path) -> Any:
    """Write to the store behind the service's back."""
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as connection:
        yield connection
        connection.commit()


def microseconds(time: datetime) -> int:
    return int(time.timestamp() * 1_000_000)


async def test_f20_a_deletion_that_fails_is_logged_as_one_and_the_issuer_is_not_failing(
    tmp_path: Path, emulator: AwsEmulator, caplog: pytest.LogCaptureFixture
) -> None:
    deleting = issuer("payments", series=[series(destroy_after="1s")])
    async with running(document(tmp_path, emulator.endpoint, deleting)) as service:
        emulator.add_fault("http_500", operation="ScheduleKeyDeletion")
        old = (await service.sign()).kid
        await service.rotate()
        past = microseconds(datetime.now(UTC) - timedelta(days=1))
        with caplog.at_level(logging.WARNING), database(tmp_path) as store:
            times = (past, past, past, old)
            store.execute(
                "UPDATE keys SET retire_time = ?, withdraw_time = ?, destroy_due_time = ? WHERE kid = ?", times
            )
            store.execute("UPDATE issuers SET revision = revision + 1")
            store.execute("UPDATE deployment SET revision = revision + 1")
            store.commit()

            async def tried() -> bool:
                return "ScheduleKeyDeletion" in emulator.calls and bool(caplog.messages)

            await until(tried)
        said = [m for m in caplog.messages if "issuer payments" in m]
        assert said == [
            f"issuer payments: the deletion of key {old} could not be scheduled: PROVIDER_UNAVAILABLE (provider aws)"
        ]
        assert service.app.rotator.creation.failing == {}
        emulator.clear_faults()

        async def destroyed() -> bool:
            return any(k.kid == old and k.HasField("destroy_time") for k in await service.list_keys())

        await until(destroyed)


async def test_f21_a_replica_that_may_still_serve_is_named_however_long_ago_it_was_seen(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    timing = {"refresh_interval": "100ms", "max_serve_age": "30d"}
    async with running(document(tmp_path, emulator.endpoint, timing=timing)) as service:
        now = microseconds(datetime.now(UTC))
        with database(tmp_path) as store:
            store.executemany(
                "INSERT INTO replicas (replica_id, revision, start_time, seen_time) VALUES (?, 1, ?, ?)",
                [("cut-off", now - 9 * DAY, now - 8 * DAY), ("gone", now - 90 * DAY, now - 80 * DAY)],
            )
        await service.rotate()  # a new revision, so that this replica writes its row
        await until(lambda: _beat_after(tmp_path, now))
        done = await service.revoke((await service.sign()).kid)
        assert list(done.stale_replicas) == ["cut-off"]
        assert done.verifier_cache_until.ToDatetime(UTC) > datetime.now(UTC) + timedelta(days=29)


async def _beat_after(directory: Path, time: int) -> bool:
    with database(directory) as store:
        rows = store.execute("SELECT count(*) FROM replicas WHERE seen_time > ?", (time,)).fetchone()
    return bool(rows[0])


@pytest.mark.parametrize("protection", ["external", "software"])
async def test_f22_no_key_is_created_where_the_provider_cannot_keep_it_as_asked(
    tmp_path: Path, emulator: AwsEmulator, protection: str
) -> None:
    wanting = issuer("payments", series=[series(protection=protection)])
    async with running(document(tmp_path, emulator.endpoint, wanting)) as service:
        assert (await failure(service.sign())).reason == "NO_ACTIVE_KEY"
        assert "CreateKey" not in emulator.calls
        assert "ALGORITHM_NOT_SUPPORTED" in service.app.rotator.creation.failing["payments"]


async def test_f23_the_plan_of_a_revocation_writes_nothing_to_the_store(tmp_path: Path, service: Service) -> None:
    active = (await service.list_keys())[0].kid
    with database(tmp_path) as store:

        async def url_is_kept() -> bool:
            return bool(store.execute("SELECT url FROM issuers").fetchone()[0])

        await until(url_is_kept)  # Each replica writes it once, after its start.
        store.execute("INSERT INTO token_counts (kid, expire_minute, tokens) VALUES (?, 1, 7)", (active,))
        store.commit()
        before = _content(store)
        for _ in range(3):
            await service.revoke(active, validate_only=True)
        assert _content(store) == before


def _content(store: sqlite3.Connection) -> dict[str, Any]:
    tables = ("deployment", "issuers", "keys", "intents", "token_counts")
    return {table: store.execute(f"SELECT * FROM {table}").fetchall() for table in tables}  # noqa: S608 - our own names
