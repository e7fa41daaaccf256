"""Who has asked to have incomplete figures published, until a second person confirms it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "overrides_asked",
        sa.Column("scope", sa.String(6), primary_key=True),
        sa.Column("period", sa.String(10), primary_key=True),
        sa.Column("bureau", sa.String(6), nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("asked_at_us", sa.BigInteger, nullable=False),
        sa.Column("until_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
