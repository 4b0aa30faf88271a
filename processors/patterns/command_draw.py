"""`antiphon cep draw PATTERN`: a picture of a pattern, its stages or its automaton, as SVG."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from streams.cli.output import Exit, cluster_config, err, fail

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
    """Draw a pattern as SVG, in light and dark: its stages, or with --states the automaton that they become.

    Exit code 4 where the pattern or the file is missing, 2 where the file is wrong, 1 where --states would have too many lines.
    """
    from processors.core.cep.automaton import PatternError
    from processors.core.cep.drawing import Caption, draw_stages
    from processors.core.cep.drawing_states import DrawingError, draw_states
    from processors.core.cep.engine import compile_pattern
    from processors.core.cep.loading import DefinitionError
    from processors.patterns.chosen import ChoiceError, NotThere, choose
    from processors.patterns.options import CepOptions
    from processors.patterns.store import PatternMissing, PatternStore

    try:
        chosen = choose(pattern, lambda: PatternStore(cluster_config(), CepOptions.load()), to_read=False)
        definition = chosen.definition
        caption = Caption.of(definition, chosen.version)
        svg = draw_states(compile_pattern(definition.pattern), caption) if states else draw_stages(definition.pattern, caption)
    except (PatternMissing, NotThere) as error:
        raise fail(str(error), Exit.MISSING) from None
    except (ChoiceError, DefinitionError, PatternError) as error:
        raise fail(str(error), Exit.USAGE) from None
    except DrawingError as error:
        raise fail(str(error), Exit.FAILED) from None
    if output is None:
        typer.echo(svg, nl=False)
        return
    try:
        output.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise fail(f"{output}: {error.strerror}", Exit.USAGE) from None
    err.print(f"{definition.name} is drawn in {output}", style="dim", highlight=False, markup=False, soft_wrap=True)
