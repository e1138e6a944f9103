"""Schema migrations, with Alembic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, select
from sqlalchemy.exc import SQLAlchemyError

from sealwright.errors import ConfigurationError
from sealwright.keys.ports import StoreUnavailableError
from sealwright.sql.dialect import Dialect
from sealwright.sql.statements import require_usable
from sealwright.sql.tables import SCHEMA, deployment

_MIGRATIONS: Final = Path(__file__).parent / "migrations"


def upgrade(engine: Engine, dialect: Dialect) -> str:
    """Bring the schema up to date and return its revision. Processes that do so at the same time wait for each other.

    A newer schema that this version may use stays as it is.

    Raises:
        ConfigurationError: A newer version made the schema, and this one must not use it, or the database is another application's.
    """
    config = _config()
    with engine.begin() as connection:
        dialect.lock_schema(connection)
        config.attributes["connection"] = connection
        if not _is_newer(connection):
            command.upgrade(config, "head")
        return current_revision(connection) or ""


def require_current(engine: Engine, *, exactly: bool = False) -> None:
    """Check that the schema is up to date. Change nothing.

    Args:
        engine: The database.
        exactly: Whether a newer schema is refused even if this version may use it.

    Raises:
        ConfigurationError: It is not.
    """
    with engine.begin() as connection:
        if _is_newer(connection):
            if exactly:
                raise _newer(current_revision(connection))
        elif current_revision(connection) != SCHEMA:
            raise ConfigurationError(["store.url: the schema is out of date: run `sealwright db upgrade`"])


def current_revision(connection: Connection) -> str | None:
    """Return the schema's revision; None: the database is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    return config


def _is_newer(connection: Connection) -> bool:
    """Return whether a newer version made the schema.

    Raises:
        ConfigurationError: It did, and does not let this version use it; or the database belongs to something else.
    """
    revision = current_revision(connection)
    if revision is None:
        if inspect(connection).get_table_names():
            raise ConfigurationError(["store.url: the database contains tables of another application"])
        return False
    if revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}:
        return False
    try:
        require_usable(connection.execute(select(deployment.c.oldest_schema)).scalar_one())
    except (StoreUnavailableError, SQLAlchemyError):
        raise _newer(revision) from None
    return True


def _newer(revision: str | None) -> ConfigurationError:
    problem = f"the database is at revision {revision}, but this version of Sealwright knows revisions up to {SCHEMA}"
    return ConfigurationError([f"store.url: {problem}: run the newer version"])
