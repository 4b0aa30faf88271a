"""``antiphon settings``: every setting, what it is now, and where that came from; never a secret."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.output import JsonFlag, print_json, print_table
from streams.settings import Settings
from streams.settings_report import rows

__all__ = ["settings"]


def settings(
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are not at their default.")] = False,
    explain: Annotated[bool, typer.Option("--explain", help="What each does and what it may be.")] = False,
    json: JsonFlag = False,
) -> None:
    """Print all settings; exit code 2 with one line for each that is wrong."""
    found = [row for row in rows(Settings()) if not changed or row.origin != "default"]
    if json:
        print_json([row._asdict() for row in found])
    elif explain:
        print_table(
            ["setting", "value", "from", "allowed", "what it does"],
            [(r.name, r.value, r.origin, r.allowed, r.description) for r in found],
        )
    else:
        print_table(["setting", "value", "from", "variable"], [(row.name, row.value, row.origin, row.variable) for row in found])
