"""The ledger: one journal for each bureau, and what is folded from it."""
