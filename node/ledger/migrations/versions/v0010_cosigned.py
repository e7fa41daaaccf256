"""What witnesses have cosigned: of this node's ledgers, and by it of others'; and what stands against those."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=False)


def _number(name: str, *, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=key, nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


def upgrade() -> None:
    """Make the tables."""
    for table in ("cosigned", "witnessed"):
        op.create_table(
            table,
            _text("witness", key=True),
            _text("bureau", key=True),
            _number("generation"),
            _number("seq"),
            _bytes("hash"),
            _number("stated_at_us"),
            _number("cosigned_at_us"),
            _bytes("head"),
        )
    op.create_table(
        "witnessed_segments",
        _text("witness", key=True),
        _text("bureau", key=True),
        _number("generation", key=True),
        _number("first_seq", key=True),
        _number("last_seq"),
        _number("kept_at_us"),
        _bytes("segment"),
    )
    op.create_table(
        "ledger_doubts",
        _text("bureau", key=True),
        _text("peer", key=True),
        _number("finding"),
        _number("known_generation"),
        _number("known_seq"),
        _bytes("known_hash"),
        _number("told_generation"),
        _number("told_seq"),
        _bytes("told_hash"),
        _number("since_us"),
    )


def downgrade() -> None:
    """Drop them."""
    for table in ("ledger_doubts", "witnessed_segments", "witnessed", "cosigned"):
        op.drop_table(table)
