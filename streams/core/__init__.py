"""Decisions of the runtime as plain functions and values: nothing here reads a clock, a socket or a file."""
