"""What the builder's methods share: checked stages, joined conditions, durations."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from processors.core.cep.automaton import PatternError
from processors.core.cep.expressions import Expr, Op
from processors.core.cep.model import Stage
from processors.core.cep.terms import Operand, expression_of
from processors.core.cep.text import from_text
from processors.core.cep.wording import expected

__all__ = ["checked", "condition_of", "in_words", "joined", "length_ms", "whole_ms"]

_MS: Final = timedelta(milliseconds=1)


def checked(**values: Any) -> Stage:  # noqa: ANN401 the model checks them
    """Make a stage.

    Raises:
        PatternError: It is not allowed; names the stage.
    """
    try:
        return Stage(**values)
    except ValidationError as error:
        raise PatternError(in_words(error), str(values.get("name") or "group")) from None


def in_words(error: ValidationError) -> str:
    """Say what pydantic found on one line."""
    found = []
    for details in error.errors(include_url=False):
        place = ".".join(str(part) for part in details["loc"])
        found.append(f"{f'{place}: ' if place else ''}{expected(details)}")
    return "; ".join(found)


def condition_of(condition: Operand) -> Expr:
    """Read a term, a constant, or text."""
    return from_text(condition) if isinstance(condition, str) else expression_of(condition)


def joined(op: str, left: Expr | None, right: Expr) -> Expr:
    """Join two conditions, flat where the left is joined in the same way already."""
    if left is None:
        return right
    joined = left.args if isinstance(left, Op) and left.op == op and len(left.args) > 1 else (left,)
    return Op(op, (*joined, right))


def length_ms(duration: timedelta | None = None, **units: float) -> int:
    """Add up a duration in milliseconds.

    Raises:
        PatternError: It is shorter than 1 ms, or not whole.
    """
    length = (duration or timedelta(0)) + timedelta(
        **{"milliseconds" if unit == "ms" else unit: size for unit, size in units.items()}
    )
    if length < _MS:
        raise PatternError("a window needs a length of at least 1 ms: within(minutes=5), or a timedelta", "within")
    return whole_ms(length)


def whole_ms(length: timedelta) -> int:
    """Count the milliseconds.

    Raises:
        PatternError: They are not whole.
    """
    if length % _MS:
        raise PatternError(f"{length} is no whole number of milliseconds", "within")
    return length // _MS
