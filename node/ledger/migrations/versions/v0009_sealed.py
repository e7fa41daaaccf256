"""Private parts with their salts in one value, digests of requests and content of files likewise, each to be sealed.

What is there is marked as plain here; the ledger seals it when it is opened, with the key that this file does not have.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

PLAIN = "00000000"
VALUES = (("private", "sealed"), ("requests", "digest"), ("blob_chunks", "data"))


class StillSealed(Exception):
    """A ledger with sealed values cannot be read by the version before."""


def upgrade() -> None:
    """Put the mark before every value; SQLite joins bytes as a text of the same bytes."""
    connection = op.get_bind()
    sqlite = connection.dialect.name == "sqlite"
    op.create_table("data_keys", sa.Column("key_id", sa.Text, primary_key=True), sqlite_with_rowid=False)
    mark = f"X'{PLAIN}'" if sqlite else f"'\\x{PLAIN}'::bytea"
    op.add_column("private", sa.Column("sealed", sa.LargeBinary, nullable=False, server_default=sa.text(mark)))
    joined = {
        "private": f"{mark} || salt || payload",
        "requests": f"{mark} || digest",
        "blob_chunks": f"{mark} || data",
    }
    for table, column in VALUES:
        value = f"CAST({joined[table]} AS BLOB)" if sqlite else joined[table]
        op.execute(f"UPDATE {table} SET {column} = {value}")  # noqa: S608 - constants
    op.drop_column("private", "salt")
    op.drop_column("private", "payload")
    if any(connection.execute(sa.text(f"SELECT 1 FROM {table} LIMIT 1")).first() for table, _ in VALUES):  # noqa: S608
        connection.execute(sa.text("INSERT INTO data_keys (key_id) VALUES (:key_id)"), {"key_id": PLAIN})


def downgrade() -> None:
    """Take the marks away. Raises `StillSealed`."""
    connection = op.get_bind()
    if set(connection.execute(sa.text("SELECT key_id FROM data_keys")).scalars()) - {PLAIN}:
        raise StillSealed
    binary = "BLOB" if connection.dialect.name == "sqlite" else "bytea"
    empty = sa.text("X''" if binary == "BLOB" else "''::bytea")
    for column in ("salt", "payload"):
        op.add_column("private", sa.Column(column, sa.LargeBinary, nullable=False, server_default=empty))
    op.execute(
        f"UPDATE private SET salt = CAST(substr(sealed, 5, 16) AS {binary}),"  # noqa: S608 - constants
        f" payload = CAST(substr(sealed, 21) AS {binary})"
    )
    op.drop_column("private", "sealed")
    for table, column in VALUES[1:]:
        op.execute(f"UPDATE {table} SET {column} = CAST(substr({column}, 5) AS {binary})")  # noqa: S608 - constants
    op.drop_table("data_keys")
