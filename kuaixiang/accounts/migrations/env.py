"""What alembic runs: the migrations over the connection that the store has opened."""

from alembic import context

from kuaixiang.accounts.store import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="accounts_version",
    transaction_per_migration=False,
)
context.run_migrations()
