"""The first tables: issuers and their limits, keys, intents, replicas, token counts."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    deployment = op.create_table(
        "deployment",
        sa.Column("deployment_id", sa.String(36), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("deployment_id", name="pk_deployment"),
    )
    op.bulk_insert(deployment, [{"deployment_id": str(uuid.uuid4()), "revision": 1}])
    op.create_table(
        "issuers",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("first_publish_time", sa.BigInteger),
        sa.Column("max_staleness", sa.BigInteger, nullable=False),
        sa.Column("max_age", sa.BigInteger, nullable=False),
        sa.Column("stale_if_error", sa.BigInteger, nullable=False),
        sa.Column("max_lifetime", sa.BigInteger, nullable=False),
        sa.Column("verifier_skew", sa.BigInteger, nullable=False),
        sa.Column("max_serve_age", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_issuers"),
    )
    _create_keys()
    _create_intents()
    op.create_table(
        "replicas",
        sa.Column("replica_id", sa.String(36), nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("start_time", sa.BigInteger, nullable=False),
        sa.Column("seen_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("replica_id", name="pk_replicas"),
    )
    op.create_table(
        "token_counts",
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("expire_minute", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kid", "expire_minute", name="pk_token_counts"),
    )


def _create_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("kid", sa.String(64), nullable=False),
        sa.Column("issuer", sa.String(63), nullable=False),
        sa.Column("series", sa.String(63), nullable=False),
        sa.Column("ordinal", sa.Integer, nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("provider", sa.String(63), nullable=False),
        sa.Column("uri", sa.String(2048), nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("publish_time", sa.BigInteger, nullable=False),
        sa.Column("ready_time", sa.BigInteger),
        sa.Column("retire_time", sa.BigInteger),
        sa.Column("withdraw_time", sa.BigInteger),
        sa.Column("revoke_time", sa.BigInteger),
        sa.Column("destroy_time", sa.BigInteger),
        sa.PrimaryKeyConstraint("kid", name="pk_keys"),
        sa.ForeignKeyConstraint(["issuer"], ["issuers.name"], name="fk_keys_issuer"),
        sa.UniqueConstraint("uri", name="uq_keys_uri"),
        sa.UniqueConstraint("issuer", "series", "ordinal", name="uq_keys_issuer_series_ordinal"),
    )
    op.create_index("ix_keys_issuer", "keys", ["issuer"])


def _create_intents() -> None:
    op.create_table(
        "intents",
        sa.Column("intent_id", sa.String(36), nullable=False),
        sa.Column("issuer", sa.String(63), nullable=False),
        sa.Column("series", sa.String(63), nullable=False),
        sa.Column("algorithm", sa.String(16), nullable=False),
        sa.Column("provider", sa.String(63), nullable=False),
        sa.Column("create_time", sa.BigInteger, nullable=False),
        sa.Column("claimed_by", sa.String(36), nullable=False),
        sa.Column("claim_expire_time", sa.BigInteger, nullable=False),
        sa.Column("uri", sa.String(2048), nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("kid", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("intent_id", name="pk_intents"),
        sa.ForeignKeyConstraint(["issuer"], ["issuers.name"], name="fk_intents_issuer"),
    )
    op.create_index("ix_intents_issuer", "intents", ["issuer"])
