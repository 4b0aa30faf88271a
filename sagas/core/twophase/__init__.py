"""Two-phase commit: the coordinator."""
