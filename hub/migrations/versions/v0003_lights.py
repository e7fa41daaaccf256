"""Open clocks: when one working day is left, and whether they have been extended."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; clocks folded before count as in time until their deadline, and as not extended."""
    op.add_column("open_clocks", sa.Column("soon_us", sa.BigInteger, nullable=False, server_default=str(2**62)))
    op.add_column("open_clocks", sa.Column("extended", sa.SmallInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("open_clocks", "extended")
    op.drop_column("open_clocks", "soon_us")
