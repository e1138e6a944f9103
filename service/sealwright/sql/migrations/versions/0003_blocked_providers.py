"""Providers at which no key is created, because all of their keys were revoked."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blocked_providers",
        sa.Column("provider", sa.String(63), nullable=False),
        sa.Column("block_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("provider", name="pk_blocked_providers"),
    )
