"""Benchmarks: `python -m bench` runs all programs, `python -m bench.NAME` one; `bench.results` is what they share."""
