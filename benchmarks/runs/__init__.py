"""Runs: one, many, and what survives an interruption."""
