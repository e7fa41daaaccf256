"""The ledger's migrations, run by alembic when the ledger is opened."""
