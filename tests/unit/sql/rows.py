"""Stores for tests, and rows to write into them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from sealwright.keys.lifecycle import Key
from sealwright.keys.ports import Intent, IssuerState
from sealwright.sql import migrate
from sealwright.sql.dialect import Dialect
from sealwright.sql.postgres import PostgresDialect
from sealwright.sql.settings import StoreSettings
from sealwright.sql.sqlite import BUSY_TIMEOUT, SqliteDialect
from sealwright.sql.store import SqlStore
from support.limits import LIMITS as LIMITS  # noqa: PLC0414 - others take it from here

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)


def settings(path: Path) -> StoreSettings:
    """Return the settings of a database file."""
    return StoreSettings(url=f"sqlite:///{path}")


def dialect_of(where: Path | StoreSettings, timeout: float = BUSY_TIMEOUT) -> Dialect:
    """Return the dialect of a database file or of settings."""
    if isinstance(where, Path) or where.url.startswith("sqlite:"):
        return SqliteDialect(timeout)
    return PostgresDialect(timeout)


def engine_of(where: Path | StoreSettings, busy_timeout: float = BUSY_TIMEOUT) -> Engine:
    """Return an engine for a database file or for settings."""
    url = settings(where).url if isinstance(where, Path) else where.url
    return dialect_of(where, busy_timeout).open(url)


def upgrade(engine: Engine) -> str:
    """Bring a database's schema up to date."""
    return migrate.upgrade(engine, SqliteDialect() if engine.name == "sqlite" else PostgresDialect())


@asynccontextmanager
async def opened(where: Path | StoreSettings, *, busy_timeout: float = BUSY_TIMEOUT) -> AsyncIterator[SqlStore]:
    """Open a store that is up to date."""
    engine = engine_of(where, busy_timeout)
    store = SqlStore(engine, dialect_of(where, busy_timeout))
    try:
        upgrade(engine)
        yield store
    finally:
        await store.aclose()


def intent(number: int, issuer: str = "payments", **more: Any) -> Intent:
    """Return an intent without a key."""
    return Intent(
        **{
            "intent_id": f"intent-{number}",
            "issuer": issuer,
            "series": "es256",
            "algorithm": "ES256",
            "provider": "aws",
            "create_time": NOW,
            "claimed_by": "replica-1",
            "claim_expire_time": NOW + timedelta(seconds=90),
            **more,
        }
    )


def key(number: int, issuer: str = "payments", **more: Any) -> Key:
    """Return a key that has just been published."""
    return Key(
        **{
            "kid": f"kid-{number}",
            "issuer": issuer,
            "series": "es256",
            "ordinal": number,
            "algorithm": "ES256",
            "provider": "aws",
            "uri": f"awskms:///key-{number}",
            "public_key": bytes([number % 256]),
            "publish_time": NOW,
            **more,
        }
    )


async def issuer_state(store: SqlStore, name: str = "payments") -> IssuerState:
    """Read an issuer, making it where there is none."""
    await store.ensure_issuer(name, LIMITS)
    return (await store.read()).issuers[name]
