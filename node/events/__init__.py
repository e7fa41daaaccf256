"""Events out of the node: each bureau's journal, as it is committed, into the stream of its NATS site."""
