"""Every command with its arguments, options and exit codes as a page: writes docs/cli.md.

    python -m streams.cli.reference > docs/cli.md

Only what this checkout offers is on the page: its own commands, and those of its entry points.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import typer
from typer.models import ArgumentInfo, OptionInfo

__all__ = ["page"]

Callback = Callable[..., Any]
Row = tuple[str, str, str]
"""Name, default, help."""

WORDS: dict[Any, str] = {bool: "", str: " TEXT", int: " NUMBER", float: " NUMBER", Path: " PATH"}
"""What an option of a type takes."""

HEAD = """# The command line

<!-- Written by `python -m streams.cli.reference > docs/cli.md`; a test checks that it is current. -->

Results go to standard output, as a table or as JSON with `--json` (one document, or one a line where there are more). Progress,
notes and errors go to standard error; an expected error is one line that says what to do. Which Kafka a command talks to is a
[setting](settings.md): `ANTIPHON_KAFKA__BOOTSTRAP_SERVERS`, or the embedded one, which is started where none runs.

| exit code | |
| --- | --- |
| 0 | all is well |
| 1 | a check or a bar did not hold, or the job failed |
| 2 | wrong usage or settings |
| 3 | the broker does not answer, or refuses |
| 4 | what was named does not exist, or nothing is selected |
"""


def page(app: typer.Typer, name: str) -> str:
    """The page of a command line.

    Args:
        app: With all its commands.
        name: How it is called.
    """
    return HEAD + "".join(f"\n{_section(path, callback)}" for path, callback in sorted(_commands(app, name)))


def _commands(app: typer.Typer, path: str) -> Iterator[tuple[str, Callback]]:
    """Each command with its whole name; read from typer's own records, since those of click differ between its versions."""
    for command in app.registered_commands:
        if command.callback is not None:
            yield f"{path} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from _commands(group.typer_instance, f"{path} {group.name}")


def _section(path: str, callback: Callback) -> str:
    """Heading, usage, what it does, and its parameters as a table."""
    arguments, options = [], []
    for parameter in inspect.signature(callback, eval_str=True).parameters.values():
        kind, *notes = get_args(parameter.annotation) or (parameter.annotation,)
        for note in notes:
            if isinstance(note, ArgumentInfo):
                arguments.append(_argument(parameter, kind, note))
            elif isinstance(note, OptionInfo) and not note.hidden:
                options.append(_option(parameter, kind, note))
    usage = " ".join([path, *(name for name, _, _ in arguments), *(["[OPTIONS]"] if options else [])])
    lines = [f"## {path}", "", f"    {usage}", "", " ".join((inspect.getdoc(callback) or "").split())]
    rows = [(f"`{_cell(name)}`", default, text) for name, default, text in arguments] + options
    if rows:
        lines += [
            "",
            "| | default | |",
            "| --- | --- | --- |",
            *(f"| {name} | {default} | {text} |" for name, default, text in rows),
        ]
    return "\n".join(lines) + "\n"


def _argument(parameter: inspect.Parameter, kind: Any, info: ArgumentInfo) -> Row:  # noqa: ANN401 a type form
    several = _is_list(kind)
    word = (info.metavar if isinstance(info.metavar, str) else parameter.name.upper()).strip("[]").removesuffix("...")
    word += "..." if several else ""
    needed = parameter.default is inspect.Parameter.empty
    return (word if needed else f"[{word}]"), _default(parameter), _cell(info.help)


def _option(parameter: inspect.Parameter, kind: Any, info: OptionInfo) -> Row:  # noqa: ANN401 a type form
    first = [info.default] if isinstance(info.default, str) else []  # within Annotated typer takes the first name for a default
    declared = [*first, *(info.param_decls or ())] or [f"--{parameter.name.replace('_', '-')}"]
    names = ", ".join(f"`{one}`" for declaration in declared for one in declaration.split("/"))
    return f"{names}{_values(kind)}", _default(parameter), _cell(info.help)


def _values(kind: Any) -> str:  # noqa: ANN401 a type form
    """What an option takes, in words; nothing for a switch."""
    chosen = _members(kind)[0]
    if get_origin(chosen) is list:
        return f"{_values(get_args(chosen)[0])} ..."
    if isinstance(chosen, type) and issubclass(chosen, Enum):
        return " " + "\\|".join(str(one.value) for one in chosen)
    if get_origin(chosen) is Literal:
        return " " + "\\|".join(str(one) for one in get_args(chosen))
    return WORDS.get(chosen, f" {getattr(chosen, '__name__', chosen)}")


def _members(kind: Any) -> list[Any]:  # noqa: ANN401 a type form
    """The alternatives of an optional type, without None."""
    if get_origin(kind) in (UnionType, Union):  # typing's own where a Literal is in it
        return [one for one in get_args(kind) if one is not NoneType]
    return [kind]


def _is_list(kind: Any) -> bool:  # noqa: ANN401 a type form
    return any(get_origin(one) is list for one in _members(kind))


def _default(parameter: inspect.Parameter) -> str:
    value = parameter.default
    if value is inspect.Parameter.empty:
        return "needed"
    if value is None or value is False or value in ("", ()):
        return ""
    return "on" if value is True else f"`{getattr(value, 'value', value)}`"


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _main() -> None:
    """Write the page of ``antiphon`` to standard output."""
    from streams.cli import commands

    commands.add_installed_commands()
    sys.stdout.write(page(commands.app, "antiphon"))


if __name__ == "__main__":
    _main()
