"""Kuaixiang 快响: what every bureau and the statistics hub agree on."""
