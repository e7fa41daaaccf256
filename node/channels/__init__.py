"""Ways in and out of a bureau's ledger beside an officer's own acts: the ledger as a table, the door for channels."""
