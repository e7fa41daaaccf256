"""What channels and taxpayers are still to be told of what has been recorded."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "callbacks",
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("generation", sa.BigInteger, nullable=False),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("occurred_at_us", sa.BigInteger, nullable=False),
        sa.Column("since_us", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.Column("next_attempt_us", sa.BigInteger, nullable=False),
        sa.Column("dead", sa.BigInteger, nullable=False),
        sa.Column("failure", sa.Text, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("callbacks_by_due", "callbacks", ["sink", "dead", "next_attempt_us", "bureau", "seq"])
    op.create_table(
        "callback_cursors",
        sa.Column("sink", sa.Text, primary_key=True),
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    """Drop them."""
    op.drop_table("callback_cursors")
    op.drop_table("callbacks")
