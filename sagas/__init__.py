"""Orchestrators over pure cores: two-phase commit (`sagas.coordinator`); sagas and workflows are the work of a later issue."""
