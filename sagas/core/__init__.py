"""Orchestrators as pure machines: what they decide follows from their commands alone."""
