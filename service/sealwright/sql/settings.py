"""Settings of the store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import field_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from sealwright.settings import Settings
from sealwright.sql.dialect import Dialect
from sealwright.sql.sqlite import SqliteDialect

DIALECTS: Final[Mapping[str, Dialect]] = {
    "sqlite": SqliteDialect(),
}
"""The supported databases, by the scheme of the URL (SQLAlchemy's `drivername`)."""


class StoreSettings(Settings):
    """Where the service keeps its state.

    Attributes:
        url: `sqlite:////absolute/path`, on a local file system, because WAL needs one.
    """

    url: str

    @field_validator("url")
    @classmethod
    def _supported(cls, value: str) -> str:
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):  # ValueError: the port is not a number
            raise ValueError("must be a database URL such as sqlite:////var/lib/sealwright/state.db") from None
        dialect = DIALECTS.get(url.drivername)
        if dialect is None:
            raise ValueError(f"must begin with {' or '.join(f'{name}://' for name in DIALECTS)}")
        dialect.check_url(url)
        return value

    @property
    def dialect(self) -> Dialect:
        """The dialect of the database."""
        return DIALECTS[make_url(self.url).drivername]
