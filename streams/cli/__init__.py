"""The command line, ``antiphon``: see :mod:`streams.cli.commands` for its commands and exit codes."""

from streams.cli.commands import app, main

__all__ = ["app", "main"]
