"""What a process needs to run: clock, certificates, transport, signatures, logs, metrics."""
