"""Kuaixiang 快响: what every bureau and the statistics hub agree on."""

import os

# What gRPC's core says of connections that end would stand on officers' terminals, and between the log's lines, which
# are JSON. It reads this when it is first used.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
