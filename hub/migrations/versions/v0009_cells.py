"""Tallies: one row for all that is counted of a bureau and a day, and years besides months.

What was folded goes back to the beginning: the store finds no definitions that its tables follow, and has every ledger
folded again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table anew."""
    op.drop_table("tallies")
    op.create_table(
        "tallies",
        sa.Column("reach", sa.SmallInteger, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("cells", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute("DELETE FROM hub_facts WHERE name = 'definitions'")


def downgrade() -> None:
    """Make it as it was, empty; it is folded again."""
    op.drop_table("tallies")
    op.create_table(
        "tallies",
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("reach", sa.SmallInteger, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("category", sa.SmallInteger, primary_key=True),
        sa.Column("channel", sa.SmallInteger, primary_key=True),
        sa.Column("department_kind", sa.SmallInteger, primary_key=True),
        sa.Column("measure", sa.Integer, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.execute("DELETE FROM hub_facts WHERE name = 'definitions'")
