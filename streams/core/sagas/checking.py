"""Whether a definition can run: every mistake, with its place and reason, before anything is started.

================  ==============================================================================================================
names             Unique, well-formed, none that expressions use; handlers, signals and codes too.
graph             Edges between nodes that are there; no cycle; every node can be reached; joins that can be satisfied.
bounds            Loops and lists say theirs; times, attempts, bodies and sizes are within `limits`.
data              Expressions are understood and read what surely comes before, and of the input only what it must have.
pivot             At most one on any way; nothing behind it that says how to undo it, nothing beside it that can fail.
schedules         They have a time, and give what the input must have.
================  ==============================================================================================================

`check` tells them all. What is built in Python is read as its own data first, so that it is held to the same shapes as a file.
"""

from __future__ import annotations

import json

from streams.core.documents import Path
from streams.core.sagas.checking_data import check_data
from streams.core.sagas.checking_graph import check_graph
from streams.core.sagas.checking_values import check_values
from streams.core.sagas.definition import Definition
from streams.core.sagas.limits import DEFINITION_CHARS_MAX
from streams.core.sagas.mistakes import DefinitionErrors, Mistake
from streams.core.sagas.shapes import read_definition, to_data

__all__ = ["check", "checked", "from_data"]


def check(definition: Definition) -> tuple[Mistake, ...]:
    """Everything that is wrong with `definition`; empty: it can run."""
    try:
        return _check(to_data(definition))[1]
    except RecursionError:
        return (Mistake(path=("nodes",), reason="values nest too deep: make them flatter"),)


def checked(definition: Definition) -> Definition:
    """`definition`, if it can run.

    Raises:
        DefinitionErrors: It cannot, with everything that is wrong.
    """
    mistakes = check(definition)
    if mistakes:
        raise DefinitionErrors(str(definition.name)[:100], mistakes)
    return definition


def from_data(data: object, source: str = "definition") -> Definition:
    """The definition that `data` (JSON) is.

    Args:
        data: Mappings, lists, text, numbers, booleans and None.
        source: What the message calls it.

    Raises:
        DefinitionErrors: It is none, or cannot run, with everything that is wrong.
    """
    try:
        definition, mistakes = _check(data)
    except RecursionError:
        definition, mistakes = None, (Mistake(path=(), reason="values nest too deep: make them flatter"),)
    if definition is None or mistakes:
        raise DefinitionErrors(source, mistakes)
    return definition


def _check(data: object) -> tuple[Definition | None, tuple[Mistake, ...]]:
    definition, mistakes = read_definition(data)
    if definition is None:
        return None, tuple(mistakes)
    mistakes += check_values(definition)
    mistakes += check_graph(definition)
    mistakes += check_data(definition)
    if not mistakes:
        chars = len(json.dumps(to_data(definition)))
        if chars > DEFINITION_CHARS_MAX:
            place: Path = ("nodes",)
            reason = f"the definition has {chars} characters as JSON, at most {DEFINITION_CHARS_MAX} are allowed: use child sagas"
            mistakes.append(Mistake(path=place, reason=reason))
    return definition, tuple(mistakes)
