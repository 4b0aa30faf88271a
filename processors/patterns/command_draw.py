"""`antiphon cep draw PATTERN`: a picture of a pattern, its stages or its automaton, as SVG."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.output import Exit, cluster_config, err, fail

if TYPE_CHECKING:
    from processors.core.cep.model import Definition

__all__ = ["draw"]


def draw(
    pattern: Annotated[
        str,
        typer.Argument(
            metavar="PATTERN",
            help="A pattern on the log, NAME or NAME@VERSION, or a file, FILE or FILE#NAME; - reads standard input.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here; else to standard output.", show_default=False)
    ] = None,
    states: Annotated[bool, typer.Option("--states", help="The automaton that it compiles to, in place of its stages.")] = False,
) -> None:
    """Draw a pattern as SVG, in light and dark: its stages, or with --states the automaton that they become."""
    from processors.core.cep.automaton import PatternError
    from processors.core.cep.drawing import Caption, draw_stages
    from processors.core.cep.drawing_states import DrawingError, draw_states
    from processors.core.cep.engine import compile_pattern
    from processors.core.cep.loading import DefinitionError
    from processors.patterns.chosen import is_file

    try:
        from_file = is_file(pattern) or pattern.partition("#")[0] == "-"
        definition, version = _from_file(pattern) if from_file else _from_log(pattern)
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


def _from_file(word: str) -> tuple[Definition, None]:
    """The definition in a file, which need not read a topic."""
    from processors.core.cep.loading import load_definitions

    file, _, name = word.partition("#")
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise fail(f"{file}: there is no such file", Exit.MISSING) from None
    except (OSError, UnicodeDecodeError) as error:
        raise fail(f"{file}: {error}", Exit.USAGE) from None
    found = {one.name: one for one in load_definitions(text, file)}
    if not name and len(found) == 1:
        return next(iter(found.values())), None
    if not name:
        there = f"has {len(found)} definitions: choose one, as in {file}#{next(iter(found))}" if found else "holds no definition"
        raise fail(f"{file} {there}", Exit.USAGE)
    if name not in found:
        raise fail(f"{file} has no definition called {name!r}; there are {', '.join(found) or 'none'}", Exit.MISSING)
    return found[name], None


def _from_log(word: str) -> tuple[Definition, int | None]:
    """The definition of NAME, or of NAME@VERSION while that version is still on the topic."""
    from processors.patterns.chosen import ChoiceError, choose
    from processors.patterns.options import CepOptions
    from processors.patterns.store import PatternMissing, PatternStore

    try:
        found = choose(word, lambda: PatternStore(cluster_config(), CepOptions.load()))
    except PatternMissing as error:
        raise fail(str(error), Exit.MISSING) from None
    except ChoiceError as error:
        raise fail(str(error), Exit.FAILED) from None
    return found.definition, found.version
