"""What a bulletin tells of the last reconciliation and of the last search for common issues."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "reconciled",
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sa.Column("differences", sa.Integer, nullable=False),
        sa.Column("unreachable", sa.SmallInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "issue_searches",
        sa.Column("scope", sa.String(6), primary_key=True),
        sa.Column("from_day", sa.String(10), primary_key=True),
        sa.Column("to_day", sa.String(10), primary_key=True),
        sa.Column("found_at_us", sa.BigInteger, nullable=False),
        sa.Column("one_of", sa.Integer, nullable=False),
        sa.Column("unreadable", sa.Integer, nullable=False),
        sa.Column("unconfirmed", sa.Integer, nullable=False),
        sa.Column("sizes", sa.Text, nullable=False),
    )
