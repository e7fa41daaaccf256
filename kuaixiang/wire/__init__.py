"""The wire: generated messages and stubs, and the one codec between them and the domain."""
