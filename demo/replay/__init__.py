"""Replay of real event logs through a federation: how a log maps, what it tells, what is to be expected of it."""
