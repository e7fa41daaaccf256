"""Which bureau's node brings a file ahead of an offer."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of what is there nobody knows it: it counts for no bureau, and is given up within a day or some case's."""
    with op.batch_alter_table("blobs") as table:
        table.add_column(sa.Column("brought_by", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Forget it."""
    with op.batch_alter_table("blobs") as table:
        table.drop_column("brought_by")
