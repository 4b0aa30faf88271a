"""`antiphon cep`: check recorded cases, and what else one does with patterns before and after they run.

Exit codes are those of every command (docs/cli.md). What a command does is in the module of its name; here is what it takes and
how it is shown. Nothing heavy is imported before a command is called: `antiphon --help` loads this module too.
"""

from __future__ import annotations

import typer

from processors.patterns import command_backtest, command_check, command_draw, command_explain, command_library, manage

__all__ = ["commands"]

commands = typer.Typer(
    help="Patterns over events: check, draw, explain, try on the log, publish.",
    no_args_is_help=True,
)
commands.command("publish")(manage.publish)
commands.command("ls")(manage.list_patterns)
commands.command("show")(manage.show)
commands.command("pause")(manage.pause)
commands.command("resume")(manage.resume)
commands.command("remove")(manage.remove)
commands.command("matches")(manage.matches)
commands.command("library")(command_library.library_command)
commands.command("check")(command_check.check)
commands.command("draw")(command_draw.draw)
commands.command("explain")(command_explain.explain)
commands.command("backtest")(command_backtest.backtest_command)


@commands.callback()
def _group() -> None:
    """Patterns over events: check, draw, explain, try on the log, publish."""
