"""Templates: JSON in which a text that begins with `=` is an expression.

    {"customer": "=input.customer.id", "legs": ["=flight.id", "train"], "note": "==sic"}

becomes, over the data of a saga, `{"customer": 7, "legs": ["LH1", "train"], "note": "=sic"}`. A template is understood once; its
parts without expressions are shared by everything that is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Final

from streams.core.sagas.expressions import BadExpression, Expression, Json, Read, Scope, Value, compile_expression
from streams.core.sagas.limits import MISTAKES_MAX, TEMPLATE_DEPTH_MAX, TEMPLATE_VALUES_MAX, TEXT_CHARS_MAX

__all__ = ["BadTemplate", "Template", "compile_template", "understand"]


class BadTemplate(BadExpression):
    """A template with a mistake: correct it as the message says.

    Attributes:
        path: Where in it: keys and indexes.
    """

    def __init__(self, reason: str, path: Read, column: int = 0) -> None:
        """`column` is in the text at `path`, from 1; 0: it is not about a part of a text."""
        super().__init__(reason, column)
        self.path = path


@dataclass(frozen=True, slots=True)
class Template:
    """A template that was understood.

    Attributes:
        value: It with the values of its expressions, over a scope. What has no expression is not copied: never change it.
        expressions: Where in it (keys and indexes) each expression is.
    """

    value: Callable[[Scope], Json] = field(compare=False)
    expressions: tuple[tuple[Read, Expression], ...]


def compile_template(template: Json) -> Template:
    """Understand a template.

    Raises:
        BadTemplate: An expression in it is none, or it is no JSON, or too deep: the first mistake.
    """
    understood, wrong = understand(template)
    if wrong:
        raise wrong[0]
    return understood


def understand(template: Json) -> tuple[Template, list[BadTemplate]]:
    """The template with null for what is wrong in it, and everything that is wrong."""
    reading = _Reading()
    value, constant = reading.read(template, ())
    if constant is not _NOT_CONSTANT:
        return Template(lambda _scope: constant, ()), reading.wrong
    return Template(value, tuple(reading.found)), reading.wrong


_NOT_CONSTANT: Final = object()
_Part = tuple[Value, Json]
"""What a part of a template became, and its value where it is the same over any scope."""


class _Reading:
    """One reading of a template."""

    def __init__(self) -> None:
        self.found: list[tuple[Read, Expression]] = []
        self.wrong: list[BadTemplate] = []
        self._values = 0

    def read(self, template: Json, path: Read) -> _Part:
        self._values += 1
        if self._values > TEMPLATE_VALUES_MAX:
            return self._refuse(f"a template has at most {TEMPLATE_VALUES_MAX} values: make it smaller", path)
        if len(path) > TEMPLATE_DEPTH_MAX:
            return self._refuse(f"values nest deeper than {TEMPLATE_DEPTH_MAX}: make it flatter", path)
        if isinstance(template, str):
            return self._text(template, path)
        if isinstance(template, Mapping):
            return self._mapping(template, path)
        if isinstance(template, list | tuple):
            return self._list(template, path)
        reason = _no_literal(template)
        return self._refuse(reason, path) if reason else _constant(template)

    def _list(self, template: Sequence[Json], path: Read) -> _Part:
        parts: list[_Part] = []
        for index, value in enumerate(template):
            parts.append(self.read(value, (*path, index)))
            if self._values > TEMPLATE_VALUES_MAX:  # told already
                break
        if all(constant is not _NOT_CONSTANT for _, constant in parts):
            return _constant([constant for _, constant in parts])
        values = tuple(value for value, _ in parts)
        return (lambda scope: [value(scope) for value in values]), _NOT_CONSTANT

    def _mapping(self, template: Mapping[Json, Json], path: Read) -> _Part:
        if not all(isinstance(key, str) for key in template):
            return self._refuse("a key of a template is text", path)
        parts: dict[str, _Part] = {}
        for key, value in template.items():
            parts[key] = self.read(value, (*path, key))
            if self._values > TEMPLATE_VALUES_MAX:  # told already
                break
        if all(constant is not _NOT_CONSTANT for _, constant in parts.values()):
            return _constant({key: constant for key, (_, constant) in parts.items()})
        values = tuple((key, value) for key, (value, _) in parts.items())
        return (lambda scope: {key: value(scope) for key, value in values}), _NOT_CONSTANT

    def _text(self, text: str, path: Read) -> _Part:
        if len(text) > TEXT_CHARS_MAX:
            return self._refuse(f"a text of {len(text)} characters, at most {TEXT_CHARS_MAX} are allowed", path)
        if not text.startswith("=") or text.startswith("=="):
            return _constant(text[1:] if text.startswith("==") else text)
        try:
            expression = compile_expression(text[1:])
        except BadExpression as error:
            return self._refuse(error.reason, path, error.column + 1)
        self.found.append((path, expression))
        return expression.value, _NOT_CONSTANT

    def _refuse(self, reason: str, path: Read, column: int = 0) -> _Part:
        if len(self.wrong) <= MISTAKES_MAX:
            self.wrong.append(BadTemplate(reason, path, column))
        return _constant(None)


def _no_literal(value: Json) -> str:
    """Why this is no literal of JSON; empty where it is."""
    if isinstance(value, float) and not isfinite(value):
        return f"{value} is no number of JSON: numbers are finite"
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return "a whole number has at most 64 bits; write a larger one as 1e30"
    return "" if value is None or isinstance(value, int | float) else f"a template is JSON, and this is a {type(value).__name__}"


def _constant(value: Json) -> _Part:
    return (lambda _scope: value), value
