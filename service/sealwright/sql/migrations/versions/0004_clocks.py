"""The clocks of machines, and the URLs of issuers."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clocks",
        sa.Column("boot_id", sa.String(64), nullable=False),
        sa.Column("zero", sa.BigInteger, nullable=False),
        sa.Column("seen_time", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("boot_id", name="pk_clocks"),
    )
    op.add_column("issuers", sa.Column("url", sa.String(2048)))
