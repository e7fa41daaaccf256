"""Words of bureaus further away, under their own signatures, on which something was recorded."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "attestations",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("receipt_id", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("attestations_by_entry", "attestations", ["bureau", "seq"])


def downgrade() -> None:
    """Drop it."""
    op.drop_table("attestations")
