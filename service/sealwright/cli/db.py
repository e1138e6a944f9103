"""`sealwright db`."""

from __future__ import annotations

from pathlib import Path

import click
from sqlalchemy.exc import DBAPIError

from sealwright.cli.arguments import config_option
from sealwright.cli.output import fail, output_option, show
from sealwright.config import load
from sealwright.errors import ConfigurationError
from sealwright.sql import migrate


@click.group()
def db() -> None:
    """Maintain the store."""


@db.command()
@config_option
@output_option
def upgrade(path: Path, output: str) -> None:
    """Bring the store's schema up to date. The command can be repeated, and run by several processes at once."""
    try:
        store = load(path).store
        engine = store.dialect.open(store.url)
        try:
            revision = migrate.upgrade(engine, store.dialect)
        finally:
            engine.dispose()
    except ConfigurationError as e:
        fail(output, e.problems)
    except DBAPIError as e:
        fail(output, [f"store.url: the store cannot be brought up to date: {e.orig}"])
    show(output, f"the store is at revision {revision}", {"revision": revision})
