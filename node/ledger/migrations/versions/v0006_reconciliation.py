"""Reconciliation: when a hand-over was offered, how its case ended, what differs, when ledgers were last compared.

The journal of an older ledger does not say in SQL what the new columns hold: `kx node rebuild` fills them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables and the column."""
    op.add_column("referrals", sa.Column("offered_at_us", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("referrals_by_offer", "referrals", ["bureau", "peer", "offered_at_us"])
    op.create_table(
        "conclusions",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("case_id", sa.Text, primary_key=True),
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("referral_id", sa.Text, nullable=False),
        sa.Column("outcome", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("round", sa.BigInteger, nullable=False),
        sa.Column("handled_by", sa.Text, nullable=False),
        sa.Column("completed_at_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mismatches",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("case_id", sa.Text, primary_key=True),
        sa.Column("absent", sa.BigInteger, primary_key=True),
        sa.Column("difference", sa.BigInteger, nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "reconciliations",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("from_day", sa.Text, nullable=False),
        sa.Column("to_day", sa.Text, nullable=False),
        sa.Column("matched", sa.BigInteger, nullable=False),
        sa.Column("pending", sa.BigInteger, nullable=False),
        sa.Column("missing_here", sa.BigInteger, nullable=False),
        sa.Column("missing_there", sa.BigInteger, nullable=False),
        sa.Column("different", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("reconciliations", "mismatches", "conclusions"):
        op.drop_table(table)
    op.drop_index("referrals_by_offer", "referrals")
    op.drop_column("referrals", "offered_at_us")
