"""Ways in and out of a bureau's ledger beside an officer's own acts."""
