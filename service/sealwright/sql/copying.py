"""Copying a whole store to another database, such as from SQLite to PostgreSQL."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from sealwright.errors import ConfigurationError
from sealwright.keys.ports import ALIVE, StoreUnavailableError
from sealwright.sql.settings import StoreSettings
from sealwright.sql.store import SqlStore
from sealwright.sql.tables import deployment, metadata, replicas

Rows = dict[str, list[dict[str, Any]]]


async def copy_store(source: StoreSettings, target: StoreSettings) -> Mapping[str, int]:
    """Copy everything but the rows of replicas in one transaction, and compare both stores afterwards.

    The copy is the same deployment at the same revision, so the witness of what has been published accepts it.

    Args:
        source: The store. No replica may be running.
        target: Where to. It must be empty.

    Returns:
        The number of rows, by table.

    Raises:
        ConfigurationError: The source is in use, the target is not empty or not the same afterwards, or one of them is missing or
            out of date.
        StoreUnavailableError: One of them cannot be used.
    """
    async with contextlib.AsyncExitStack() as stack:
        old = await stack.enter_async_context(
            contextlib.aclosing(await SqlStore.open(source, upgrade=False, exactly=True))
        )
        new = await stack.enter_async_context(contextlib.aclosing(await _opened(target)))
        state = await old.read()
        if await old.replicas(state.time - ALIVE):
            raise ConfigurationError([f"store.url: stop the service, and wait for {ALIVE.seconds} s if it was killed"])
        rows = await old._read(_rows)
        await new._write(lambda c: _fill(c, rows))
        if await old._read(_rows) != rows:
            raise ConfigurationError(
                ["store.url: the store has changed meanwhile: delete the copy, and stop the service"]
            )
        if await new._read(_rows) != rows:
            raise ConfigurationError(["target: the copy differs from the store: delete it, and do not use it"])
    return {name: len(found) for name, found in rows.items()}


async def _opened(target: StoreSettings) -> SqlStore:
    try:
        return await SqlStore.open(target, exactly=True)
    except ConfigurationError as e:
        raise ConfigurationError([p.replace("store.url", "target", 1) for p in e.problems]) from None
    except StoreUnavailableError as e:
        raise ConfigurationError([f"target: {e}"]) from None


def _rows(c: Connection) -> Rows:
    """Return the rows of all tables by name, in an order that does not depend on the database."""
    found = {}
    for table in metadata.sorted_tables:
        if table is not replicas:
            key = [column.name for column in table.primary_key]
            rows = [dict(row._mapping) for row in c.execute(select(table))]
            found[table.name] = sorted(rows, key=lambda row: [row[name] for name in key])
    return found


def _fill(c: Connection, rows: Rows) -> None:
    for table in metadata.sorted_tables:
        if table is deployment:  # a new store has made a name for itself
            c.execute(update(deployment).values(rows[table.name][0]))
        elif c.execute(select(func.count()).select_from(table)).scalar_one():
            raise ConfigurationError(["target: it must be empty, but there is a store already"])
        elif rows.get(table.name):
            c.execute(insert(table), rows[table.name])
