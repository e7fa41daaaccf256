"""A filing-deadline day of the nation, or of some provinces, on one machine: `kx simulate`."""
