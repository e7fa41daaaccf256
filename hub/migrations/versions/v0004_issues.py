"""Confirmed common issues."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "common_issues",
        sa.Column("issue_id", sa.String(32), primary_key=True),
        sa.Column("year", sa.Integer, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("title", sa.Text, nullable=False, unique=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("standard_answer", sa.Text, nullable=False),
        sa.Column("terms", sa.Text, nullable=False),
        sa.Column("confirmed_at_us", sa.BigInteger, nullable=False),
        sa.Column("confirmed_by", sa.Text, nullable=False),
        sa.Column("changed_at_us", sa.BigInteger, nullable=False),
        sa.Column("changed_by", sa.Text, nullable=False),
        sa.UniqueConstraint("year", "number"),
    )
