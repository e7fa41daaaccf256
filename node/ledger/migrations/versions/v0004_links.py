"""Cases that are linked to another one of the same ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the lead case's number, empty for a case by itself."""
    op.add_column("cases", sa.Column("lead_case_id", sa.Text, nullable=False, server_default=""))
    op.create_index("cases_by_lead", "cases", ["bureau", "lead_case_id"])
