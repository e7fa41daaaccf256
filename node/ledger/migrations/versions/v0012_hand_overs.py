"""Receipts that peers have given of what was handed over to them, with the words of both on them."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "hand_overs",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("referral_id", sa.Text, primary_key=True),
        sa.Column("receipt", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("hand_overs")
