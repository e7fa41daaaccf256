"""The tree of bureaus that headquarters has published, as it signed it."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "published_trees",
        sa.Column("published_at_us", sa.BigInteger, primary_key=True),
        sa.Column("directive", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )
