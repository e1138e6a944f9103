"""Schema migrations, with Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect

from sealwright.errors import ConfigurationError
from sealwright.sql.dialect import Dialect

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def upgrade(engine: Engine, dialect: Dialect) -> str:
    """Bring the schema up to date and return its revision. Processes that do so at the same time wait for each other.

    Raises:
        ConfigurationError: A newer version made the schema, or the database belongs to something else.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with engine.begin() as connection:
        dialect.lock_schema(connection)
        config.attributes["connection"] = connection
        _check_known(connection, ScriptDirectory.from_config(config))
        command.upgrade(config, "head")
        return current_revision(connection) or ""


def require_current(engine: Engine) -> None:
    """Check that the schema is up to date. Change nothing.

    Raises:
        ConfigurationError: It is not.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    with engine.begin() as connection:
        _check_known(connection, scripts)
        if current_revision(connection) != scripts.get_current_head():
            raise ConfigurationError(["store.url: the schema is out of date: run `sealwright db upgrade`"])


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision; None: the database is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def _check_known(connection: Connection, scripts: ScriptDirectory) -> None:
    revision = current_revision(connection)
    if revision is not None and revision not in {script.revision for script in scripts.walk_revisions()}:
        newest = scripts.get_current_head()
        problem = (
            f"the database is at revision {revision}, but this version of Sealwright knows revisions up to {newest}"
        )
        raise ConfigurationError([f"store.url: {problem}: run the newer version"])
    if revision is None and inspect(connection).get_table_names():
        raise ConfigurationError(["store.url: the database contains tables of another application"])
