"""The command `kx`: one sub-command per thing a person or an operator does."""
