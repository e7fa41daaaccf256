"""What headquarters has published."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "directives",
        sa.Column("kind", sa.BigInteger, primary_key=True),
        sa.Column("subject", sa.Text, primary_key=True),
        sa.Column("published_at_us", sa.BigInteger, primary_key=True),
        sa.Column("directive", sa.LargeBinary, nullable=False),
        sa.Column("signature", sa.LargeBinary, nullable=False),
    )


def downgrade() -> None:
    """Drop it."""
    op.drop_table("directives")
