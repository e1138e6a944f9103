"""`sealwright db`."""

from __future__ import annotations

from pathlib import Path

import click
from sqlalchemy.exc import DBAPIError

from sealwright.cli.arguments import config_option
from sealwright.cli.output import fail, output_option, show
from sealwright.config import load
from sealwright.errors import ConfigurationError
from sealwright.keys.ports import StoreUnavailableError
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
    except ConfigurationError as e:
        fail(output, e.problems)
    dialect = store.dialect
    try:
        engine = dialect.open(store.url)
        try:
            revision = migrate.upgrade(engine, dialect)
        finally:
            engine.dispose()
    except ConfigurationError as e:
        fail(output, e.problems)
    except StoreUnavailableError as e:
        fail(output, [f"store.url: the store cannot be brought up to date: {e}"])
    except DBAPIError as e:
        fail(output, [f"store.url: the store cannot be brought up to date: {dialect.reason_of(e)}"])
    show(output, f"the store is at revision {revision}", {"revision": revision})
