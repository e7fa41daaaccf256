"""A clock's row says when one working day is left, and whether that is recorded."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NEVER_US = str(2**62)
"""Of clocks that started before: their entries do not say when."""


def upgrade() -> None:
    """Add the columns, and what the sweep looks by."""
    op.add_column("clocks", sa.Column("soon_us", sa.BigInteger, nullable=False, server_default=NEVER_US))
    op.add_column("clocks", sa.Column("due_soon", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index("clocks_by_soon", "clocks", ["overdue", "due_soon", "soon_us"])
    op.create_index("clocks_by_calendar", "clocks", ["overdue", "calendar_version"])


def downgrade() -> None:
    """Drop them again."""
    op.drop_index("clocks_by_calendar", "clocks")
    op.drop_index("clocks_by_soon", "clocks")
    op.drop_column("clocks", "due_soon")
    op.drop_column("clocks", "soon_us")
