"""One night: what a sleep does, stage by stage."""
