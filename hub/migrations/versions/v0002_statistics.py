"""Tallies and open cases by kind of department, and editions of published figures.

Sums cannot be split afterwards: the tables begin empty, and the store has every ledger folded again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables anew, and those of what is published."""
    op.drop_table("tallies")
    op.drop_table("open_cases")
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
    op.create_table(
        "open_cases",
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("case_id", sa.Text, primary_key=True),
        sa.Column("stage", sa.SmallInteger, nullable=False),
        sa.Column("custody", sa.SmallInteger, nullable=False),
        sa.Column("category", sa.SmallInteger, nullable=False),
        sa.Column("channel", sa.SmallInteger, nullable=False),
        sa.Column("department_kind", sa.SmallInteger, nullable=False),
        sa.Column("last_act_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "editions",
        sa.Column("scope", sa.String(6), primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("edition", sa.Integer, primary_key=True),
        sa.Column("first_day", sa.Integer, nullable=False),
        sa.Column("last_day", sa.Integer, nullable=False),
        sa.Column("published_at_us", sa.BigInteger, nullable=False),
        sa.Column("published_by", sa.Text, nullable=False),
        sa.Column("definitions", sa.Integer, nullable=False),
        sa.Column("tree_version", sa.Text, nullable=False),
        sa.Column("bureaus_expected", sa.Integer, nullable=False),
        sa.Column("bureaus_heard", sa.Integer, nullable=False),
        sa.Column("bureaus_up_to_date", sa.Integer, nullable=False),
        sa.Column("bureaus_quarantined", sa.Integer, nullable=False),
        sa.Column("data_as_of_us", sa.BigInteger, nullable=False),
        sa.Column("missing", sa.Text, nullable=False),
        sa.Column("override_by", sa.Text, nullable=False),
        sa.Column("override_second", sa.Text, nullable=False),
        sa.Column("override_reason", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "published",
        sa.Column("scope", sa.String(6), primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("edition", sa.Integer, primary_key=True),
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("reach", sa.SmallInteger, primary_key=True),
        sa.Column("category", sa.SmallInteger, primary_key=True),
        sa.Column("channel", sa.SmallInteger, primary_key=True),
        sa.Column("department_kind", sa.SmallInteger, primary_key=True),
        sa.Column("measure", sa.Integer, primary_key=True),
        sa.Column("value", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Go back to tables without the kind; they begin empty, too."""
    for table in ("published", "editions", "open_cases", "tallies"):
        op.drop_table(table)
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
