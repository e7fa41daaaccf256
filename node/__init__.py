"""A bureau's service: its ledger, its peers, its events, its deadlines."""
