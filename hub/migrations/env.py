"""What alembic runs: the migrations over the connection that the hub has opened."""

from alembic import context

from hub.store import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    version_table="hub_version",
    transaction_per_migration=False,
)
context.run_migrations()
