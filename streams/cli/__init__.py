"""The command line, ``antiphon``: see :mod:`streams.cli.main` for its commands and exit codes."""

from streams.cli.main import app, main

__all__ = ["app", "main"]
