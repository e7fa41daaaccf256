"""What a later generation of a journal is held to, and what one has lost."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table, and the column."""
    op.create_table(
        "passed",
        sa.Column("bureau", sa.String(6), primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sa.Column("hash", sa.LargeBinary, nullable=False),
    )
    op.add_column("marks", sa.Column("restored", sa.Text, nullable=False, server_default=""))
