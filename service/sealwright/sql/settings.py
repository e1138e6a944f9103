"""Settings of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import field_validator

from sealwright.settings import Settings
from sealwright.sql.dialect import Dialect
from sealwright.sql.postgres import PostgresDialect
from sealwright.sql.sqlite import SqliteDialect

DIALECTS: Final[Mapping[str, Dialect]] = {
    "postgresql": PostgresDialect(),
    "sqlite": SqliteDialect(),
}
"""The supported databases, by the scheme of the URL."""


class StoreSettings(Settings):
    """Where the service keeps its state.

    Attributes:
        url: `sqlite:////absolute/path`, on a local file system, because WAL needs one; or `postgresql://…`, as libpq reads it, but
            without a password.
    """

    url: str

    @field_validator("url")
    @classmethod
    def _supported(cls, value: str) -> str:
        dialect = DIALECTS.get(value.partition("://")[0])
        if dialect is None:
            raise ValueError(f"must begin with {' or '.join(f'{name}://' for name in DIALECTS)}")
        dialect.check_url(value)
        return value

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database."""
        return DIALECTS[self.url.partition("://")[0]]
