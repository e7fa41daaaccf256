"""The first tables: marks, tallies, open cases and their clocks, facts about the database."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "marks",
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("data_as_of_us", sa.BigInteger, nullable=False),
        sa.Column("heard_at_us", sa.BigInteger, nullable=False),
        sa.Column("announced_generation", sa.BigInteger, nullable=False),
        sa.Column("announced_seq", sa.BigInteger, nullable=False),
        sa.Column("quarantine", sa.Text, nullable=False),
    )
    op.create_table(
        "tallies",
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("reach", sa.SmallInteger, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True),
        sa.Column("category", sa.SmallInteger, primary_key=True),
        sa.Column("channel", sa.SmallInteger, primary_key=True),
        sa.Column("measure", sa.Integer, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "open_cases",
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("case_id", sa.Text, primary_key=True),
        sa.Column("stage", sa.SmallInteger, nullable=False),
        sa.Column("custody", sa.SmallInteger, nullable=False),
        sa.Column("category", sa.SmallInteger, nullable=False),
        sa.Column("channel", sa.SmallInteger, nullable=False),
        sa.Column("last_act_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "open_clocks",
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("case_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.SmallInteger, primary_key=True),
        sa.Column("department", sa.Text, primary_key=True),
        sa.Column("due_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "hub_facts",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in ("hub_facts", "open_clocks", "open_cases", "tallies", "marks"):
        op.drop_table(table)
