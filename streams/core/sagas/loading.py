"""Definitions of sagas from YAML or JSON files, with every mistake at its line.

::

    name: trip                                     # trip.yaml
    nodes:
      - name: flight
        timeout_ms: soon
      - name: pay
        input: {price: =fligth.price}

    trip.yaml:4:21: nodes[0].timeout_ms: node 'flight': a whole number is wanted, and this is the text 'soon'

All mistakes of shape are told at once, and when the shapes are right, all others. A file has one definition, or several:
documents behind `---`, or a list. `shapes` has the keys.
"""

from __future__ import annotations

from dataclasses import replace

from streams.core.documents import Document, Path, Problem, documents_of, yaml_of
from streams.core.sagas.checking import check, from_data
from streams.core.sagas.definition import Definition
from streams.core.sagas.mistakes import DefinitionErrors, Mistake
from streams.core.sagas.shapes import to_data

__all__ = ["check", "from_data", "load_saga", "load_sagas", "to_data", "to_yaml"]


def load_saga(text: str, source: str = "saga.yaml") -> Definition:
    """The one definition in `text`.

    Args:
        text: YAML or JSON.
        source: The file's name, for messages.

    Raises:
        DefinitionErrors: It has mistakes, or not exactly one definition.
    """
    found = load_sagas(text, source)
    if len(found) != 1:
        names = ", ".join(definition.name for definition in found)
        reason = f"one definition is wanted, and there are {len(found)}: {names}"
        raise DefinitionErrors(source, [Mistake(path=(), reason=reason, line=1, line_column=1)])
    return found[0]


def load_sagas(text: str, source: str = "sagas.yaml") -> list[Definition]:
    """Every definition in `text`, in order: at least one, none twice in the same version.

    Args:
        text: YAML or JSON.
        source: The file's name, for messages.

    Raises:
        DefinitionErrors: With all mistakes of all definitions.
    """
    documents, problems = documents_of(text)
    mistakes = [_of_problem(problem) for problem in problems]
    found: list[Definition] = []
    lines: dict[tuple[str, int], int] = {}
    for document in documents:
        mistakes += [_of_problem(problem) for problem in document.problems]
        listed = isinstance(document.value, list)
        for index, value in enumerate(document.value if listed else [document.value]):
            root: Path = (index,) if listed else ()
            try:
                definition = from_data(value)
            except DefinitionErrors as error:
                mistakes += [_placed(document, root, mistake) for mistake in error.mistakes]
                continue
            place = document.problem((*root, "name"), "")
            key = definition.name, definition.version
            if key in lines:
                reason = f"{definition.name!r} version {definition.version} is defined already, in line {lines[key]}"
                mistakes.append(_of_problem(replace(place, reason=reason)))
            lines[key] = place.line
            found.append(definition)
    if not mistakes and not found:
        mistakes = [
            Mistake(path=(), reason="there is no definition: at least 'name' and 'nodes' are wanted", line=1, line_column=1)
        ]
    if mistakes:
        raise DefinitionErrors(source, mistakes)
    return found


def to_yaml(definition: Definition) -> str:
    """`definition` as people write it; `load_saga` reads an equal one."""
    return yaml_of(to_data(definition))


def _of_problem(problem: Problem) -> Mistake:
    reason = f"{problem.path}: {problem.reason}" if problem.path else problem.reason
    return Mistake(path=(), reason=reason, line=problem.line, line_column=problem.column)


def _placed(document: Document, root: Path, mistake: Mistake) -> Mistake:
    path = (*root, *mistake.path)
    if mistake.column:
        problem = document.problem_in_text(path, mistake.reason, line=1, column=mistake.column)
    else:
        problem = document.problem(path, mistake.reason, key=mistake.at_key)
    return replace(mistake, path=path, reason=problem.reason, line=problem.line, line_column=problem.column)
