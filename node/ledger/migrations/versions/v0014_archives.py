"""Up to where journals lie in the archive, and words that stay where a private part is moved there.

A private part that is deleted takes its words with it, unless its entry is in the archive: then it was moved there.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

DROP_WORDS = "DELETE FROM case_words WHERE doc = (CAST(old.bureau AS {integer}) << 40) + old.seq;"
MOVED = "EXISTS (SELECT 1 FROM archives a WHERE a.bureau = old.bureau AND a.last_seq >= old.seq)"


class StillArchived(Exception):
    """A ledger with archived years cannot be read by the version before."""


def _sqlite(when: str) -> None:
    op.execute("DROP TRIGGER private_erased")
    words = DROP_WORDS.format(integer="INTEGER")
    op.execute(f"CREATE TRIGGER private_erased AFTER DELETE ON private {when} BEGIN {words} END")


def _postgresql(when: str) -> None:
    words = DROP_WORDS.format(integer="bigint")
    op.execute(
        "CREATE OR REPLACE FUNCTION drop_case_words() RETURNS trigger LANGUAGE plpgsql AS $$"
        f" BEGIN {when} {words} RETURN NULL; END $$"
    )


def upgrade() -> None:
    """Make the tables, and teach the trigger."""
    op.create_table(
        "archives",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("year", sa.BigInteger, primary_key=True),
        sa.Column("state", sa.BigInteger, nullable=False),
        sa.Column("last_seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary, nullable=False),
        sa.Column("cases", sa.BigInteger, nullable=False),
        sa.Column("archived_at_us", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "archive_erasures",
        sa.Column("bureau", sa.Text, primary_key=True),
        sa.Column("seq", sa.BigInteger, primary_key=True),
        sqlite_with_rowid=False,
    )
    if op.get_bind().dialect.name == "sqlite":
        _sqlite(f"WHEN NOT {MOVED}")
    else:
        _postgresql(f"IF {MOVED} THEN RETURN NULL; END IF;")


def downgrade() -> None:
    """Drop them. Raises `StillArchived`."""
    if op.get_bind().execute(sa.text("SELECT 1 FROM archives LIMIT 1")).first():
        raise StillArchived
    if op.get_bind().dialect.name == "sqlite":
        _sqlite("")
    else:
        _postgresql("")
    op.drop_table("archive_erasures")
    op.drop_table("archives")
