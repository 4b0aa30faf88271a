"""The orchestrator of sagas: pure."""
