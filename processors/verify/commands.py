"""`antiphon verify`: judge from outside what clients saw of a coordination service.

Exit codes are those of every command (docs/cli.md). What a command does is in the module of its name.
"""

from __future__ import annotations

import typer

from processors.verify import command_locks, command_transactions

__all__ = ["commands"]

commands = typer.Typer(help="Judge recorded histories of clients.", no_args_is_help=True)
commands.command("locks")(command_locks.locks)
commands.command("transactions")(command_transactions.transactions)


@commands.callback()
def _group() -> None:
    """Judge recorded histories of clients."""
