"""Records: what a run leaves."""
