"""The tables. `migrations/` makes them; a test holds the two together."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

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
)
from sqlalchemy.engine import Dialect

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class UtcTime(TypeDecorator[datetime]):
    """A time as whole microseconds since the epoch: exact, ordered and the same on every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Turn a time into microseconds."""
        return None if value is None else (value - _EPOCH) // _MICROSECOND

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Turn microseconds into a time, in UTC."""
        return None if value is None else _EPOCH + value * _MICROSECOND


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
)
"""One row: the name by which this store's keys are known in the KMS, and a counter of all writes."""

issuers = Table(
    "issuers",
    metadata,
    Column("name", String(63), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("first_publish_time", UtcTime),
    Column("max_staleness", Span, nullable=False),
    Column("max_age", Span, nullable=False),
    Column("stale_if_error", Span, nullable=False),
    Column("max_lifetime", Span, nullable=False),
    Column("verifier_skew", Span, nullable=False),
    Column("max_serve_age", Span, nullable=False),
)
"""An issuer with its revision, on which every write is a compare-and-swap, and its limits, which are only ever raised."""

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
    Column("public_key", LargeBinary, nullable=False),
    Column("publish_time", UtcTime, nullable=False),
    Column("ready_time", UtcTime),
    Column("retire_time", UtcTime),
    Column("withdraw_time", UtcTime),
    Column("revoke_time", UtcTime),
    Column("destroy_time", UtcTime),
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
    Column("uri", String(2048), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("kid", String(64), nullable=False),
)

replicas = Table(
    "replicas",
    metadata,
    Column("replica_id", String(36), primary_key=True),
    Column("revision", BigInteger, nullable=False),
    Column("start_time", UtcTime, nullable=False),
    Column("seen_time", UtcTime, nullable=False),
)

token_counts = Table(
    "token_counts",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("expire_minute", BigInteger, primary_key=True),
    Column("tokens", BigInteger, nullable=False),
)
"""Tokens by kid and the minute of their `exp`: how many die with a revocation is estimated from it."""
