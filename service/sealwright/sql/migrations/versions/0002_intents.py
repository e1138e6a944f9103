"""What became of an intent: when the KMS was asked, when the key was made, and how the intent ended."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("asked_time", "made_time", "abandon_time", "close_time"):
        op.add_column("intents", sa.Column(name, sa.BigInteger))
    op.add_column("intents", sa.Column("outcome", sa.String(16)))
    # An earlier version did not note whether it had asked the KMS, so a key may exist.
    op.execute("UPDATE intents SET asked_time = create_time")
    op.execute("UPDATE intents SET close_time = create_time WHERE kid <> ''")
