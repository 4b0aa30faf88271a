"""Checking from outside: recording what clients saw, and the commands that judge it."""

from processors.verify.recorder import HistoryWriter

__all__ = ["HistoryWriter"]
