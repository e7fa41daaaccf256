"""The first tables: journal, private parts, answers given, projections, progress."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "bureaus",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("cases_registered", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cases",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("case_id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("stage", sa.BigInteger, nullable=False),
        sa.Column("custody", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("category", sa.BigInteger, nullable=False),
        sa.Column("channel", sa.BigInteger, nullable=False),
        sa.Column("department", sa.Text, nullable=False),
        sa.Column("registered_at_us", sa.BigInteger, nullable=False),
        sa.Column("with_bureau", sa.Text, nullable=False),
        sa.Column("next_due_us", sa.BigInteger, nullable=False),
        sa.Column("next_clock", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("cases_by_due", "cases", ["bureau", "next_due_us", "case_id"])
    op.create_table(
        "channel_references",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("channel", sa.BigInteger, primary_key=True),
        sa.Column("reference", sa.Text, primary_key=True),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "clocks",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("case_id", sa.Text, primary_key=True),
        sa.Column("kind", sa.BigInteger, primary_key=True),
        sa.Column("department", sa.Text, primary_key=True),
        sa.Column("started_at_us", sa.BigInteger, nullable=False),
        sa.Column("due_us", sa.BigInteger, nullable=False),
        sa.Column("limit_workdays", sa.BigInteger, nullable=False),
        sa.Column("calendar_version", sa.Text, nullable=False),
        sa.Column("provisional", sa.BigInteger, nullable=False),
        sa.Column("extended", sa.BigInteger, nullable=False),
        sa.Column("overdue", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("clocks_by_due", "clocks", ["overdue", "due_us"])
    op.create_table(
        "cursors",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("published_seq", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "decisions",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("referral_id", sa.Text, primary_key=True),
        sa.Column("receipt", sa.LargeBinary, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "deliveries",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("case_id", sa.Text, primary_key=True),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("deliveries_in_order", "deliveries", ["bureau", "peer", "since_us"])
    op.create_table(
        "journal",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("recorded_at_us", sa.BigInteger, nullable=False),
        sa.Column("occurred_at_us", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("public", sa.LargeBinary, nullable=False),
        sa.Column("private_digest", sa.LargeBinary, nullable=False),
        sa.Column("prev_hash", sa.LargeBinary, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.create_index("journal_by_case", "journal", ["bureau", "case_id", "version"])
    op.create_table(
        "peers",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("peer", sa.Text, primary_key=True),
        sa.Column("failures", sa.BigInteger, nullable=False),
        sa.Column("next_attempt_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "private",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("salt", sa.LargeBinary, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "referrals",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("referral_id", sa.Text, primary_key=True),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("outgoing", sa.BigInteger, nullable=False),
        sa.Column("peer", sa.Text, nullable=False),
        sa.Column("final_bureau", sa.Text, nullable=False),
        sa.Column("kind", sa.BigInteger, nullable=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("state", sa.BigInteger, nullable=False),
        sa.Column("refusal", sa.BigInteger, nullable=False),
        sa.Column("at_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("referrals_by_case", "referrals", ["bureau", "case_id"])
    op.create_table(
        "requests",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("request_key", sa.Text, primary_key=True),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop the tables."""
    for table in (
        "requests",
        "referrals",
        "private",
        "peers",
        "journal",
        "deliveries",
        "decisions",
        "cursors",
        "clocks",
        "channel_references",
        "cases",
        "bureaus",
    ):
        op.drop_table(table)
