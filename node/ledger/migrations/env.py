"""What alembic runs: the migrations over the connection that the ledger has opened."""

from alembic import context

from node.ledger.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="ledger_version",
    transaction_per_migration=False,
)
context.run_migrations()
