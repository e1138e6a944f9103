"""What happens to keys in the KMS at the end of their life, and where it keeps their private halves."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("disable_time", "destroy_due_time"):
        op.add_column("keys", sa.Column(name, sa.BigInteger))
    for table in ("keys", "intents"):
        op.add_column(table, sa.Column("protection", sa.String(16)))
