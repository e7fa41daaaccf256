"""A clock's row says when the sweep is to look at it, and by which calendar: never, while its case is offered."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

NEVER_US = str(2**62)
# As the numbers of the wire have it at this version: a case in another custody than 1 is not in this bureau's hands.
SWEPT = """
    overdue = 0 AND NOT EXISTS (
        SELECT 1 FROM cases
        WHERE cases.bureau = clocks.bureau AND cases.case_id = clocks.case_id AND cases.custody <> 1
    )
"""
FILL = f"""
    UPDATE clocks SET
        sweep_us = CASE WHEN due_soon = 0 AND soon_us < due_us THEN soon_us ELSE due_us END,
        sweep_calendar = calendar_version
    WHERE {SWEPT}
"""  # noqa: S608 - a constant
BEFORE = {
    "clocks_by_due": ["overdue", "due_us"],
    "clocks_by_soon": ["overdue", "due_soon", "soon_us"],
    "clocks_by_calendar": ["overdue", "calendar_version"],
}


def upgrade() -> None:
    """Add the columns, fill them, and have the sweep look by them."""
    op.add_column("clocks", sa.Column("sweep_us", sa.BigInteger, nullable=False, server_default=NEVER_US))
    op.add_column("clocks", sa.Column("sweep_calendar", sa.Text, nullable=False, server_default=""))
    op.execute(FILL)
    for index in BEFORE:
        op.drop_index(index, "clocks")
    op.create_index("clocks_by_sweep", "clocks", ["sweep_us"])
    op.create_index("clocks_by_calendar", "clocks", ["sweep_calendar"])


def downgrade() -> None:
    """Forget them."""
    op.drop_index("clocks_by_calendar", "clocks")
    op.drop_index("clocks_by_sweep", "clocks")
    for index, columns in BEFORE.items():
        op.create_index(index, "clocks", columns)
    op.drop_column("clocks", "sweep_calendar")
    op.drop_column("clocks", "sweep_us")
