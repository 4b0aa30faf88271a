"""Definitions from YAML or JSON files, with every mistake at its line.

::

    name: three-failures                      # flaky.yaml
    pattern:
      stages:
        - name: failed
          where: type = 'tool.failed'
          times: {min: 0x, max: 3}

    flaky.yaml:5:23: pattern.stages[0].where: write '==', not '='
    flaky.yaml:6:24: pattern.stages[0].times.min: a whole number is wanted, and this is the text '0x'

All mistakes are told at once; what the compiler refuses (Flink's rules) is told when the shapes are right. A file has one
definition, or several: documents behind `---`, or a list.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from processors.core.cep.automaton import PatternError
from processors.core.cep.compiler import compile_pattern
from processors.core.cep.expressions import ExpressionError, from_data
from processors.core.cep.model import Definition, Pattern, Skip, Stage, Times
from processors.core.cep.text import to_text
from processors.core.cep.wording import expected
from schemas.errors import AntiphonError, Fault
from streams.core.documents import Document, Path, Problem, documents_of, yaml_of
from streams.core.words import did_you_mean

__all__ = ["DefinitionError", "load_definition", "load_definitions", "to_yaml"]

_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "pattern": Pattern, "stages": Stage, "group": Stage, "any_of": Stage, "all_of": Stage, "times": Times, "skip": Skip,
}  # fmt: skip
"""The model of what stands under a key."""


class DefinitionError(AntiphonError, ValueError):
    """A file that holds no valid definition: mend it line by line as the message says.

    Attributes:
        source: The file's name, as given.
        problems: Everything that is wrong, in order of the file.
    """

    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = "caller"

    def __init__(self, source: str, problems: list[Problem]) -> None:
        """One line a problem: `source:line:column: path: reason`."""
        self.source = source
        self.problems = tuple(sorted(dict.fromkeys(problems)))
        super().__init__("\n".join(f"{source}:{problem}" for problem in self.problems))


def load_definition(text: str, source: str = "definition.yaml") -> Definition:
    """The one definition in `text`.

    Args:
        text: YAML or JSON.
        source: The file's name, for messages.

    Raises:
        DefinitionError: It has mistakes, or not exactly one definition.
    """
    found = load_definitions(text, source)
    if len(found) != 1:
        names = ", ".join(definition.name for definition in found)
        raise DefinitionError(source, [Problem(1, 1, "", f"one definition is wanted, and there are {len(found)}: {names}")])
    return found[0]


def load_definitions(text: str, source: str = "definitions.yaml") -> list[Definition]:
    """Every definition in `text`, in order: at least one, each with a name of its own.

    Args:
        text: YAML or JSON.
        source: The file's name, for messages.

    Raises:
        DefinitionError: With all mistakes of all definitions.
    """
    documents, problems = documents_of(text)
    found: list[Definition] = []
    lines: dict[str, int] = {}
    for document in documents:
        problems += document.problems
        listed = isinstance(document.value, list)
        for index, value in enumerate(document.value if listed else [document.value]):
            root: Path = (index,) if listed else ()
            definition = _definition(document, value, root, problems)
            if definition is None:
                continue
            if definition.name in lines:
                reason = f"{definition.name!r} is defined already, in line {lines[definition.name]}"
                problems.append(document.problem((*root, "name"), reason))
            lines[definition.name] = document.problem((*root, "name"), "").line
            found.append(definition)
    if not problems and not found:
        problems = [Problem(1, 1, "", "there is no definition: at least 'name' and 'pattern' are wanted")]
    if problems:
        raise DefinitionError(source, problems)
    return found


def _definition(document: Document, value: object, root: Path, problems: list[Problem]) -> Definition | None:
    try:
        definition = Definition.model_validate(value)
    except ValidationError as error:
        problems += [_problem(document, root, details) for details in error.errors(include_url=False) if not _is_echo(details)]
        return None
    try:
        compile_pattern(definition.pattern)
    except PatternError as error:
        stage = document.named(error.where, (*root, "pattern"))
        if stage is None:
            problems.append(document.problem(document.find((*root, "pattern", error.where)), error.reason))
        else:
            problems.append(document.problem(stage, f"{error.where!r}: {error.reason}"))
    problems += [
        document.problem(path, "there is no condition: leave the key away to take every event")
        for path in document.empty((*root, "pattern"), {"where", "until"})
    ]
    return definition


def _problem(document: Document, root: Path, details: ErrorDetails) -> Problem:
    path = root + details["loc"]
    kind = details["type"]
    error = details.get("ctx", {}).get("error")
    if isinstance(error, ExpressionError):
        return _in_expression(document, path, error)
    if kind == "missing":
        return document.problem(path[:-1], f"{path[-1]!r} is missing")
    if kind == "extra_forbidden":
        return document.problem(path, _no_such_key(path[len(root) :]), key=True)
    if kind == "literal_error" and path[-1] == "within" and not isinstance(details["input"], Mapping):
        return document.problem(path, f"{expected(details)} How long is said by 'within_ms'.")
    return document.problem(path, expected(details))


def _is_echo(details: ErrorDetails) -> bool:
    """A list whose items are wrong is also reported as too short."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def _no_such_key(path: Path) -> str:
    key = str(path[-1])
    parents = [part for part in path[:-1] if isinstance(part, str)]
    model = _MODELS.get(parents[-1], Stage) if parents else Definition
    known = tuple(model.model_fields)
    homes = [
        f"under {name!r}"
        for name, other in _MODELS.items()
        if key in other.model_fields and name not in {"group", "any_of", "all_of"}
    ]
    if not parents and homes:
        homes = [home for home in homes if home == "under 'pattern'"] or homes
    elif key in Definition.model_fields:
        homes = ["at the top"]
    hint = did_you_mean(key, known) or (f" It belongs {homes[0]}." if homes else "")
    return f"no key {key!r} here; there are {', '.join(known)}.{hint}"


def _in_expression(document: Document, path: Path, error: ExpressionError) -> Problem:
    if error.column is not None:
        return document.problem_in_text(path, error.reason, line=error.line, column=error.column)
    inside: Path = tuple(int(index) if index else key for key, index in re.findall(r"([a-z]+)|\[(\d+)\]", error.path))
    return document.problem(path + inside, error.reason)


def to_yaml(definition: Definition) -> str:
    """`definition` as people write it, conditions as text; `load_definition` reads an equal one."""
    return yaml_of(_with_text(definition.to_data()))


def _with_text(data: Any) -> Any:  # noqa: ANN401 a JSON value
    if isinstance(data, list):
        return [_with_text(item) for item in data]
    if not isinstance(data, dict):
        return data
    return {key: to_text(from_data(value)) if key in {"where", "until"} else _with_text(value) for key, value in data.items()}
