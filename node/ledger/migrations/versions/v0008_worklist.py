"""The work list by piles, filled from what the ledger has, and the words that cases are found by.

The words are taken when the private parts are sealed, after 0009.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

# As `kuaixiang.domain.worklist` says it at this version, in the numbers of the wire.
PILE = """
    CASE
        WHEN stage = 13 THEN 10
        WHEN custody <> 1 THEN CASE WHEN stage = 10 THEN 9 ELSE 8 END
        WHEN stage IN (1, 2) THEN stage
        WHEN stage IN (3, 4) THEN 3
        WHEN stage = 5 THEN 7
        WHEN stage = 6 THEN 8
        WHEN stage = 7 THEN 4
        WHEN stage = 8 AND EXISTS (
            SELECT 1 FROM clocks
            WHERE clocks.bureau = cases.bureau AND clocks.case_id = cases.case_id AND clocks.kind = 6
        ) THEN 5
        ELSE 6
    END
"""
# An erased private part takes its words with it, whoever erases it.
SQLITE = (
    """
    CREATE VIRTUAL TABLE case_words_index USING fts5(
        words, content='case_words', content_rowid='doc', tokenize='ascii', detail=none, columnsize=0
    )
    """,
    """
    CREATE TRIGGER case_words_added AFTER INSERT ON case_words BEGIN
        INSERT INTO case_words_index (rowid, words) VALUES (new.doc, new.words);
    END
    """,
    """
    CREATE TRIGGER case_words_dropped AFTER DELETE ON case_words BEGIN
        INSERT INTO case_words_index (case_words_index, rowid, words) VALUES ('delete', old.doc, old.words);
    END
    """,
    """
    CREATE TRIGGER private_erased AFTER DELETE ON private BEGIN
        DELETE FROM case_words WHERE doc = (CAST(old.bureau AS INTEGER) << 40) + old.seq;
    END
    """,
)
POSTGRESQL = (
    """
    CREATE INDEX case_words_index ON case_words
        USING gin (array_to_tsvector(string_to_array('@' || bureau || ' ' || words, ' ')))
    """,
    """
    CREATE FUNCTION drop_case_words() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM case_words WHERE doc = (CAST(old.bureau AS bigint) << 40) + old.seq;
        RETURN NULL;
    END $$
    """,
    "CREATE TRIGGER private_erased AFTER DELETE ON private FOR EACH ROW EXECUTE FUNCTION drop_case_words()",
)


def upgrade() -> None:
    """Add the column and the table, fill the column, and have the database keep its index of the words."""
    sqlite = op.get_bind().dialect.name == "sqlite"
    op.add_column("cases", sa.Column("pile", sa.BigInteger, nullable=False, server_default="0"))
    op.execute(f"UPDATE cases SET pile = {PILE}")  # noqa: S608 - a constant
    op.create_index("cases_by_pile", "cases", ["bureau", "pile", "next_due_us", "case_id"])
    op.create_index("cases_of_department", "cases", ["bureau", "department", "pile", "next_due_us", "case_id"])
    # With row ids: a row of a kilobyte is no part of an index.
    op.create_table(
        "case_words",
        sa.Column("doc", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
        sa.Column("bureau", sa.Text, nullable=False),
        sa.Column("case_id", sa.Text, nullable=False),
        sa.Column("words", sa.Text, nullable=False),
    )
    op.create_index("case_words_by_case", "case_words", ["bureau", "case_id"])
    for statement in SQLITE if sqlite else POSTGRESQL:
        op.execute(statement)


def downgrade() -> None:
    """Drop them; the words can be taken again."""
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER private_erased")
        op.execute("DROP TABLE case_words_index")
    else:
        op.execute("DROP TRIGGER private_erased ON private")
        op.execute("DROP FUNCTION drop_case_words")
    op.drop_table("case_words")
    op.drop_index("cases_of_department", "cases")
    op.drop_index("cases_by_pile", "cases")
    op.drop_column("cases", "pile")
