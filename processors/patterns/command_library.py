"""`antiphon cep library [NAME]`: the ready patterns, to list, or one of them to adapt and publish."""

from __future__ import annotations

from typing import Annotated

import typer

from streams.cli.output import Exit, JsonFlag, fail, print_json, print_table

__all__ = ["library_command"]


def library_command(
    name: Annotated[str | None, typer.Argument(help="The pattern to print; else all are listed.", show_default=False)] = None,
    json: JsonFlag = False,
) -> None:
    """List the ready patterns, or print one of them to adapt and publish."""
    from processors.patterns import library

    if name is None:
        definitions = [library.load(one) for one in library.names()]
        if json:
            print_json([{"name": one.name, "description": one.description, "topics": list(one.topics)} for one in definitions])
        else:
            print_table(["pattern", "topics", ""], [[one.name, ", ".join(one.topics), one.description] for one in definitions])
        return
    try:
        text = library.text(name)
    except library.LibraryMissing as missing:
        raise fail(str(missing), Exit.MISSING) from None
    if json:
        print_json(library.load(name).to_data())
    else:
        typer.echo(text, nl=False)
