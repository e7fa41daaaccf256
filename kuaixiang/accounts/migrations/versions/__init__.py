"""One script for each change of the accounts' tables."""
