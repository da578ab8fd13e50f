"""Data sets become streams of experiences."""
