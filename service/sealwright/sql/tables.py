"""The tables. `migrations/` creates them; a test checks that both agree."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
    text,
)
from sqlalchemy.engine import Dialect

from sealwright.times import EPOCH

SCHEMA: Final = "0006"
"""The newest migration, which makes the tables of this module."""

_MICROSECOND = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """A time as whole microseconds since the epoch: exact, ordered and the same on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Turn a time into microseconds."""
        return None if value is None else (value - EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Turn microseconds into a time, in UTC."""
        return None if value is None else EPOCH + value * _MICROSECOND


class Span(TypeDecorator[timedelta]):
    """A duration as whole microseconds."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, dialect: Dialect) -> int | None:
        """Turn a duration into microseconds."""
        return None if value is None else value // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> timedelta | None:
        """Turn microseconds into a duration."""
        return None if value is None else value * _MICROSECOND


class OptionalText(TypeDecorator[str]):
    """A text in a NOT NULL column, which holds an empty text for None. Compare the column with "", not with None."""

    impl = String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str:
        """Turn None into an empty text."""
        return value or ""

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:
        """Turn an empty text into None."""
        return value or None


class OptionalBytes(TypeDecorator[bytes]):
    """Bytes in a NOT NULL column, which holds empty bytes for None."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: bytes | None, dialect: Dialect) -> bytes:
        """Turn None into empty bytes."""
        return value or b""

    def process_result_value(self, value: Any | None, dialect: Dialect) -> bytes | None:
        """Turn empty bytes into None."""
        return value or None


metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_name)s",
    },
)

deployment = Table(
    "deployment",
    metadata,
    Column("deployment_id", String(36), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("oldest_schema", String(4), nullable=False, server_default="0005"),
)
"""One row: the id that tags this store's keys in the KMS, a counter of all writes, and which versions may use the store.

Code whose `SCHEMA` is older than `oldest_schema` does not use the store. A migration that only adds tables, and columns that are
nullable or have a default, leaves it, so that replicas of the version before it go on and may start again. Any other migration
sets it to its own number, and counts a write (`revision`) so that they notice.
"""

issuers = Table(
    "issuers",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("url", String(2048)),
    Column("first_publish_time", UtcTime),
    Column("max_staleness", Span, nullable=False),
    Column("max_age", Span, nullable=False),
    Column("stale_if_error", Span, nullable=False),
    Column("max_lifetime", Span, nullable=False),
    Column("verifier_skew", Span, nullable=False),
    Column("max_serve_age", Span, nullable=False),
)
"""An issuer with its limits, which are only ever raised, and its revision, which every write compares and swaps."""

keys = Table(
    "keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("issuer", ForeignKey("issuers.name"), nullable=False, index=True),
    Column("series", String(63), nullable=False),
    Column("ordinal", Integer, nullable=False),
    Column("algorithm", String(16), nullable=False),
    Column("provider", String(63), nullable=False),
    Column("uri", String(2048), nullable=False, unique=True),
    Column("public_key", OptionalBytes, nullable=False),
    Column("publish_time", UtcTime, nullable=False),
    Column("ready_time", UtcTime),
    Column("retire_time", UtcTime),
    Column("withdraw_time", UtcTime),
    Column("revoke_time", UtcTime),
    Column("destroy_time", UtcTime),
    Column("disable_time", UtcTime),
    Column("destroy_due_time", UtcTime),
    Column("protection", String(16)),
    UniqueConstraint("issuer", "series", "ordinal"),
)

intents = Table(
    "intents",
    metadata,
    Column("intent_id", String(36), primary_key=True),
    Column("issuer", ForeignKey("issuers.name"), nullable=False, index=True),
    Column("series", String(63), nullable=False),
    Column("algorithm", String(16), nullable=False),
    Column("provider", String(63), nullable=False),
    Column("create_time", UtcTime, nullable=False),
    Column("claimed_by", String(36), nullable=False),
    Column("claim_expire_time", UtcTime, nullable=False),
    Column("asked_time", UtcTime),
    Column("uri", OptionalText(2048), nullable=False),
    Column("public_key", OptionalBytes, nullable=False),
    Column("made_time", UtcTime),
    Column("kid", OptionalText(64), nullable=False),
    Column("abandon_time", UtcTime),
    Column("close_time", UtcTime),
    Column("outcome", String(16)),
    Column("protection", String(16)),
)

blocked_providers = Table(
    "blocked_providers",
    metadata,
    Column("provider", String(63), primary_key=True),
    Column("block_time", UtcTime, nullable=False),
)
"""Providers whose keys were all revoked. No key is created there until an operator permits it."""

replicas = Table(
    "replicas",
    metadata,
    Column("replica_id", String(36), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("start_time", UtcTime, nullable=False),
    Column("seen_time", UtcTime, nullable=False),
    Column("host", String(255), nullable=False, server_default=text("''")),
    Column("version", String(64), nullable=False, server_default=text("''")),
)

clocks = Table(
    "clocks",
    metadata,
    Column("boot_id", String(64), primary_key=True),
    Column("zero", UtcTime, nullable=False),
    Column("seen_time", UtcTime, nullable=False),
)
"""How the store's clock and the stopwatch of each machine went together, so that a clock that was set is recognised."""

token_counts = Table(
    "token_counts",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("expire_minute", BigInteger, primary_key=True),
    Column("tokens", BigInteger, nullable=False),
)
"""Numbers of tokens by kid and the minute of their `exp`, to estimate how many tokens a revocation affects."""
