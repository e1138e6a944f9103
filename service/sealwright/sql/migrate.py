"""Schema migrations, with Alembic. It is imported only where there is something to migrate: it takes 0.1 s and 10 MB."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Engine, column, inspect, select, table
from sqlalchemy.exc import SQLAlchemyError

from sealwright.errors import ConfigurationError
from sealwright.keys.ports import StoreUnavailableError
from sealwright.sql.dialect import Dialect
from sealwright.sql.statements import require_usable
from sealwright.sql.tables import SCHEMA, deployment

_MIGRATIONS: Final = Path(__file__).parent / "migrations"
REVISIONS: Final = frozenset(f"{number:04}" for number in range(1, int(SCHEMA) + 1))
"""Alembic's names of all migrations. A test compares them with the files, which would need Alembic to be read."""
_revisions: Final = table("alembic_version", column("version_num"))
"""Alembic's own table, which has one row."""


def upgrade(engine: Engine, dialect: Dialect) -> str:
    """Bring the schema up to date and return its revision. Processes that do so at the same time wait for each other.

    A newer schema that this version may use stays as it is.

    Raises:
        ConfigurationError: A newer version made the schema, and this one must not use it, or the database is another application's.
    """
    with engine.begin() as connection:
        dialect.lock_schema(connection)
        if current_revision(connection) != SCHEMA and not _is_newer(connection):
            _migrate(connection)
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
    if not inspect(connection).has_table(_revisions.name):
        return None
    found = connection.execute(select(_revisions.c.version_num)).scalars()
    return ", ".join(sorted(found)) or None


def _migrate(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - see above
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


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
    if revision in REVISIONS:
        return False
    try:
        require_usable(connection.execute(select(deployment.c.oldest_schema)).scalar_one())
    except (StoreUnavailableError, SQLAlchemyError):
        raise _newer(revision) from None
    return True


def _newer(revision: str | None) -> ConfigurationError:
    problem = f"the database is at revision {revision}, but this version of Sealwright knows revisions up to {SCHEMA}"
    return ConfigurationError([f"store.url: {problem}: run the newer version"])
