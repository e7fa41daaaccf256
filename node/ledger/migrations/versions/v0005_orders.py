"""Supervision orders, and how many each bureau has issued."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table and the column."""
    op.add_column("bureaus", sa.Column("orders_issued", sa.BigInteger, nullable=False, server_default="0"))
    op.create_table(
        "orders",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("order_id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("stage", sa.BigInteger, nullable=False),
        sa.Column("level", sa.BigInteger, nullable=False),
        sa.Column("issuer", sa.Text, nullable=False),
        sa.Column("final_bureau", sa.Text, nullable=False),
        sa.Column("parent_order_id", sa.Text, nullable=False),
        sa.Column("open", sa.BigInteger, nullable=False),
        sa.Column("next_due_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("orders_by_due", "orders", ["bureau", "next_due_us", "order_id"])
    op.create_index("orders_by_parent", "orders", ["bureau", "parent_order_id"])


def downgrade() -> None:
    """Drop them."""
    op.drop_table("orders")
    op.drop_column("bureaus", "orders_issued")
