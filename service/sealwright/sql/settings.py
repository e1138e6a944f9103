"""Settings of the store."""

from __future__ import annotations

from pydantic import field_validator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from sealwright.settings import Settings, check_path


class StoreSettings(Settings):
    """Where the service keeps its state.

    Attributes:
        url: `sqlite:////absolute/path`, on a local file system: WAL needs one.
    """

    url: str

    @field_validator("url")
    @classmethod
    def _supported(cls, value: str) -> str:
        try:
            url = make_url(value)
        except (ArgumentError, ValueError):  # ValueError: a port that is no number
            raise ValueError("must be a database URL such as sqlite:////var/lib/sealwright/state.db") from None
        if url.drivername != "sqlite":
            raise ValueError("must be a sqlite:// URL")
        if not url.database or not url.database.startswith("/") or url.query or url.host or url.username:
            raise ValueError("must name an absolute path (sqlite: and four slashes), and nothing else")
        check_path(url.database)
        return value
