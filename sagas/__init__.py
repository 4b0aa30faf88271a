"""Orchestrators over pure cores: sagas, two-phase commit, workflows. Nothing is here yet; it is the work of a later issue."""
