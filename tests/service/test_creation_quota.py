"""I12: all replicas together begin no more keys in a minute than a provider's quota, and ask for nothing while they wait."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from sealwright_testing.emulators.aws import AwsEmulator
from sealwright_testing.postgres import PostgresServer
from support.databases import LOGGED, postgres_server, statements, upgraded
from support.document import document, issuer
from support.service import running, until

from .test_postgres import on

QUOTA = 6
ISSUERS = 8
LATER = "UPDATE intents SET create_time = create_time - 61000000"
"""A minute passes for the quota."""


async def test_i12_replicas_share_the_quota_of_a_provider(
    tmp_path: Path, url: str, emulator: AwsEmulator, server: PostgresServer
) -> None:
    many = [issuer(f"issuer-{n}") for n in range(ISSUERS)]
    hosts = ("one", "two", "three")
    async with contextlib.AsyncExitStack() as stack:
        for name in hosts:
            tables = on(tmp_path, url, emulator, name, issuers=many)
            tables["providers"]["aws"]["max_creations_per_minute"] = QUOTA
            await stack.enter_async_context(running(tables, wait=False))
        for step in range(1, 4):
            least = min(step * QUOTA, 2 * ISSUERS)
            await until(lambda: _created(emulator, least))  # noqa: B023 - at once
            await asyncio.sleep(2.5)  # long enough to ask the store again and again
            # One of two keys each may slip through when several replicas ask at the same moment.
            assert emulator.calls["CreateKey"] <= step * (QUOTA + 2 * (len(hosts) - 1))
            server.execute(LATER)
        await until(lambda: _created(emulator, 2 * ISSUERS))
    assert emulator.calls["CreateKey"] == 2 * ISSUERS


async def _created(emulator: AwsEmulator, number: int) -> bool:
    return emulator.calls.get("CreateKey", 0) >= number


async def test_i12_issuers_that_wait_for_the_quota_do_not_ask_the_database_all_the_time(
    tmp_path: Path, emulator: AwsEmulator
) -> None:
    with postgres_server(*LOGGED) as server:
        upgraded(server.url("postgres"))
        many = [issuer(f"issuer-{n}") for n in range(60)]
        tables = document(tmp_path, emulator.endpoint, *many, store={"url": server.url("postgres")}, timing={})
        tables["providers"]["aws"]["max_creations_per_minute"] = 2
        async with running(tables, wait=False):
            await until(lambda: _created(emulator, 2))
            # Once each issuer has been looked at, the store is asked about one a second, and not about all sixty.
            await until(lambda: _is_quiet(server))
            assert emulator.calls["CreateKey"] == 2
            server.execute(LATER)
            await until(lambda: _created(emulator, 4))


async def _is_quiet(server: PostgresServer) -> bool:
    before = len(statements(server))
    await asyncio.sleep(3)
    asked = statements(server)[before:]
    return len([s for s in asked if s.startswith("SELECT count(*)")]) <= 6 and len(asked) < 60
