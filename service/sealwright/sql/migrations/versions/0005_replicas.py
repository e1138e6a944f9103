"""Where each replica runs, and which versions may use the store."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("replicas", sa.Column("host", sa.String(255), nullable=False, server_default=sa.text("''")))
    op.add_column("replicas", sa.Column("version", sa.String(64), nullable=False, server_default=sa.text("''")))
    op.add_column("deployment", sa.Column("oldest_schema", sa.String(4), nullable=False, server_default="0005"))
