"""Controls: what may stand in the place of a sleep, after a single night and over whole streams."""
