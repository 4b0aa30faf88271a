"""`antiphon cep draw PATTERN`: a picture of a pattern, its stages or its automaton, as SVG."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from streams.cli.output import Exit, cluster_config, err, fail

if TYPE_CHECKING:
    from processors.core.cep.model import Definition

__all__ = ["draw"]

SUFFIXES: Final = (".yaml", ".yml", ".json")
"""What a file of definitions ends in: such an argument is a file, even one that is not there."""


def draw(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN|FILE",
            help="A pattern on the log, NAME or NAME@VERSION, or a file, YAML or JSON; - reads standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here; else to standard output.", show_default=False)
    ] = None,
    states: Annotated[bool, typer.Option("--states", help="The automaton that it compiles to, in place of its stages.")] = False,
    name: Annotated[str | None, typer.Option(help="Which one, where a file has several definitions.", show_default=False)] = None,
) -> None:
    """Draw a pattern as SVG, in light and dark: its stages, or with --states the automaton that they become."""
    from processors.core.cep.automaton import PatternError
    from processors.core.cep.drawing import Caption, draw_stages
    from processors.core.cep.drawing_states import DrawingError, draw_states
    from processors.core.cep.engine import compile_pattern
    from processors.core.cep.loading import DefinitionError

    try:
        if pattern == "-" or pattern.endswith(SUFFIXES) or Path(pattern).is_file():
            definition, version = _from_file(pattern, name), None
        else:
            definition, version = _from_log(pattern)
        caption = Caption.of(definition, version)
        svg = draw_states(compile_pattern(definition.pattern), caption) if states else draw_stages(definition.pattern, caption)
    except (DefinitionError, PatternError, DrawingError) as error:
        raise fail(str(error), Exit.FAILED) from None
    if output is None:
        typer.echo(svg, nl=False)
        return
    try:
        output.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise fail(f"{output}: {error.strerror}", Exit.USAGE) from None
    err.print(f"{definition.name} is drawn in {output}", style="dim", highlight=False, markup=False, soft_wrap=True)


def _from_file(file: str, name: str | None) -> Definition:
    from processors.core.cep.loading import load_definitions

    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise fail(f"{file}: there is no such file", Exit.MISSING) from None
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"{file}: {error}", Exit.USAGE) from None
    found = {one.name: one for one in load_definitions(text, file)}
    if name is None and len(found) == 1:
        return next(iter(found.values()))
    if name is None:
        what = f"has {len(found)} definitions ({', '.join(found)}): choose one with --name" if found else "holds no definition"
        raise fail(f"{file} {what}", Exit.USAGE)
    if name not in found:
        raise fail(f"{file} has no definition called {name!r}; there are {', '.join(found) or 'none'}", Exit.MISSING)
    return found[name]


def _from_log(pattern: str) -> tuple[Definition, int]:
    """The definition of NAME, or of NAME@VERSION while that version is still on the topic."""
    from processors.patterns.options import CepOptions
    from processors.patterns.store import PatternMissing, PatternStore

    name, at, version = pattern.partition("@")
    if at and not version.isdecimal():
        raise fail(f"{pattern!r}: behind '@' stands a version, a whole number", Exit.USAGE)
    try:
        stored = PatternStore(cluster_config(), CepOptions.load()).get(name)
    except PatternMissing as error:
        raise fail(f"{error}, and no file is called so", Exit.MISSING) from None
    versions = dict(stored.history)
    wanted = int(version) if at else stored.version
    if wanted is None or wanted not in versions:
        known = ", ".join(map(str, versions)) or "none"
        why = f" ({stored.problem})" if stored.problem else ""
        raise fail(f"{name} has no version {wanted if at else 'that is taken'} on the log{why}; there are {known}", Exit.MISSING)
    return versions[wanted], wanted
