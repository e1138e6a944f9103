"""F59: whoever ends while it creates keys, in whatever way, the next one goes on at once and not when the claim has expired."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from sealwright_testing.emulators.aws import AwsEmulator
from support.document import document
from support.processes import Process, write_config
from support.service import until


@pytest.fixture
async def emulator() -> AsyncIterator[AwsEmulator]:
    async with AwsEmulator() as running_emulator:
        yield running_emulator


def claims(directory: Path) -> list[float]:
    """Return when the claims end that are in the store, by the epoch."""
    if not (directory / "state.db").exists():
        return []
    with sqlite3.connect(directory / "state.db") as store:
        try:
            return [t / 1e6 for (t,) in store.execute("SELECT claim_expire_time FROM intents")]
        except sqlite3.OperationalError:
            return []


async def claimed(directory: Path) -> bool:
    return len(claims(directory)) == 2


async def test_f59_the_start_after_a_kill_during_the_first_start_does_not_wait_for_the_claims(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    for number in (signal.SIGKILL, signal.SIGTERM):
        directory = tmp_path / number.name
        directory.mkdir()
        config = write_config(directory, document(directory, emulator.endpoint))
        emulator.add_fault("hang", operation="CreateKey")
        first = await asyncio.to_thread(Process, directory, "sealwright", "serve", "--config", config)
        await until(lambda directory=directory: claimed(directory))  # type: ignore[misc]
        ends = min(claims(directory))
        first.signal(number)
        await asyncio.to_thread(first.wait)
        emulator.clear_faults()
        second = await asyncio.to_thread(Process, directory, "sealwright", "serve", "--config", config)
        try:
            await asyncio.to_thread(second.wait_ready)
            with sqlite3.connect(directory / "state.db") as store:
                assert store.execute("SELECT count(*) FROM keys").fetchone() == (2,)
            assert time.time() < ends, "the claims of the first would still be valid"
        finally:
            await asyncio.to_thread(second.stop)
            first.stop()


async def test_f59_a_worker_takes_over_from_another_that_is_killed(tmp_path: Path, emulator: AwsEmulator) -> None:
    config: dict[str, Any] = document(tmp_path, emulator.endpoint)
    path = write_config(tmp_path, config)
    emulator.add_fault("hang", operation="CreateKey")
    first = await asyncio.to_thread(Process, tmp_path, "sealwright", "serve", "--config", path)
    second = await asyncio.to_thread(Process, tmp_path, "sealwright", "serve", "--config", path)
    try:
        await until(lambda: claimed(tmp_path))
        ends = min(claims(tmp_path))
        await until(lambda: _present(tmp_path, 2))
        with sqlite3.connect(tmp_path / "state.db") as store:
            (owner,) = store.execute("SELECT DISTINCT claimed_by FROM intents").fetchone()
        emulator.clear_faults()
        victim, heir = (first, second) if _holds(first.popen.pid, owner) else (second, first)
        victim.signal(signal.SIGKILL)
        await asyncio.to_thread(victim.wait)
        await asyncio.to_thread(heir.wait_ready)
        with sqlite3.connect(tmp_path / "state.db") as store:
            assert store.execute("SELECT count(*) FROM keys").fetchone() == (2,)
            assert store.execute("SELECT count(*) FROM replicas").fetchone() == (1,), "the dead one is not waited for"
        assert time.time() < ends
    finally:
        await asyncio.to_thread(first.stop)
        await asyncio.to_thread(second.stop)


async def _present(directory: Path, count: int) -> bool:
    return len(list((directory / ".state.db-replicas").glob("*.lock"))) == count


def _holds(pid: int, replica_id: str) -> bool:
    """Return whether a process has the lock file of a replica open."""
    files = Path(f"/proc/{pid}/fd")
    return any(os.path.basename(os.readlink(f)) == f"{replica_id}.lock" for f in files.iterdir() if f.is_symlink())  # noqa: PTH115, PTH119
