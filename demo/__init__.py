"""A whole federation on one machine: its processes, NATS sites, databases and inhabitants.

Used by ``kx demo``, ``kx replay``, the tests and the benchmarks; nothing in production imports it.
"""
