"""The hub: statistics of a bureau and everything under it, folded from the journals of all its ledgers."""
