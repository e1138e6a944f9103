"""`sealwright replicas`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from sealwright.cli.arguments import config_option
from sealwright.cli.output import output_option, show
from sealwright.cli.serve import failures
from sealwright.cli.tables import show_table
from sealwright.config import Config, load
from sealwright.keys.ports import ALIVE, Replica
from sealwright.sql.store import SqlStore
from sealwright.times import EPOCH, SECOND

_STYLES = {"current": "green", "behind": "yellow", "silent": "red"}


@click.command()
@config_option
@output_option
def replicas(path: Path, output: str) -> None:
    """List the worker processes that use the store, on all hosts.

    A replica is `current`, `behind` if it has not read the newest change of the store yet, or `silent` if it has not written its
    row for 30 seconds: it was killed, or cannot reach the store, and may still serve an old JWK Set. Its row is deleted after
    `max_serve_age`. The service need not run, but the command needs its configuration and its store.
    """
    with failures(output):
        revision, now, rows = asyncio.run(_read(load(path)))
    states = [_state(row, revision, now) for row in rows]
    if output == "json":
        found = [_document(row, state) for row, state in zip(rows, states, strict=True)]
        show(output, "", {"revision": revision, "time": _timestamp(now), "replicas": found})
        return
    if not rows:
        click.echo("there are no replicas")
        return
    table: list[list[Text]] = []
    for row, state in zip(rows, states, strict=True):
        seen = f"{max(0, (now - row.seen_time) // SECOND)} s ago"
        plain = [row.host, row.version, f"{row.start_time:%Y-%m-%d %H:%M:%S}", seen, str(row.revision)]
        table.append([Text(row.replica_id), Text(state, _STYLES[state]), *map(Text, plain)])
    show_table(("replica", "state", "host", "version", "started", "seen", "revision"), table)
    click.echo(f"the store is at revision {revision}")


async def _read(config: Config) -> tuple[int, datetime, Sequence[Replica]]:
    store = await SqlStore.open(config.store, upgrade=False)
    async with contextlib.aclosing(store):
        revision, now = await store.probe()  # first: a replica that reads a later one is not behind
        rows = await store.replicas(EPOCH)
    return revision, now, sorted(rows, key=lambda r: (r.host, r.start_time, r.replica_id))


def _state(row: Replica, revision: int, now: datetime) -> str:
    if now - row.seen_time >= ALIVE:
        return "silent"
    return "current" if row.revision >= revision else "behind"


def _document(row: Replica, state: str) -> dict[str, Any]:
    return {
        "replica_id": row.replica_id,
        "state": state,
        "host": row.host,
        "version": row.version,
        "start_time": _timestamp(row.start_time),
        "seen_time": _timestamp(row.seen_time),
        "revision": row.revision,
    }


def _timestamp(time: datetime) -> str:
    return time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
