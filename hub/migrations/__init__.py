"""Migrations of the hub's database, run by the hub itself when it opens it."""
