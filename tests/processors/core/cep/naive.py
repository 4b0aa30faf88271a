"""Conditions of the case format, walked as data: the slow way, written from the format's description for the enumerator alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

Json = Any
Event = Mapping[str, Any]
Taken = tuple[tuple[str, Event], ...]
"""Stage and event of everything taken so far, in order."""


def holds(condition: Json, event: Event, taken: Taken) -> bool:
    """Whether a condition is true of `event`, after `taken`."""
    return value_of(condition, event, taken) is True


def value_of(expr: Json, event: Event, taken: Taken) -> Any:
    """The value of an expression: a number, a string, a boolean or None."""
    if not isinstance(expr, Mapping):
        return expr
    if "const" in expr:
        return expr["const"]
    if "agg" in expr:
        return _aggregate(expr, [taken_event for stage, taken_event in taken if stage == expr["stage"]])
    if "field" in expr:
        return event.get(expr["field"])
    if "ts" in expr:
        return event["ts"]
    op, args = expr["op"], expr["args"]
    if op == "in":
        return any(_same(value_of(args[0], event, taken), choice) for choice in args[1])
    return _operate(op, [value_of(arg, event, taken) for arg in args])


def _aggregate(expr: Json, events: list[Event]) -> Any:
    agg, default = expr["agg"], expr.get("default")
    if agg == "count":
        return len(events)
    values = [event.get(expr["field"]) for event in events]
    if agg in {"first", "last"}:
        return values[0 if agg == "first" else -1] if values else default
    numbers: list[Any] = [value for value in values if _kind(value) == "number"]
    if agg == "sum":
        return sum(numbers)
    if not numbers:
        return default
    return sum(numbers) / len(numbers) if agg == "avg" else min(numbers) if agg == "min" else max(numbers)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else "string" if isinstance(value, str) else "null"


def _same(left: Any, right: Any) -> bool:
    return _kind(left) == _kind(right) and bool(left == right)


def _operate(op: str, values: list[Any]) -> Any:
    if op in {"and", "or"}:
        return (all if op == "and" else any)(value is True for value in values)
    if op == "not":
        return values[0] is not True
    if op in {"==", "!="}:
        return _same(*values) == (op == "==")
    if op in {"<", "<=", ">", ">="}:
        return _ordered(op, *values)
    if op in {"contains", "starts_with"}:
        text, part = values
        if _kind(text) != "string" or _kind(part) != "string":
            return False
        return part in text if op == "contains" else text.startswith(part)
    return _calculate(op, values)


def _ordered(op: str, left: Any, right: Any) -> bool:
    if _kind(left) != _kind(right) or _kind(left) not in {"number", "string"}:
        return False
    answers = {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}
    return bool(answers[op])


def _calculate(op: str, values: list[Any]) -> float | None:
    if any(_kind(value) != "number" for value in values):
        return None
    if op in {"neg", "abs"}:
        return -float(values[0]) if op == "neg" else abs(float(values[0]))
    result = float(values[0])
    for value in values[1:]:
        if op in {"/", "mod"} and value == 0:
            return None
        result = _step(op, result, float(value))
    return result


def _step(op: str, left: float, right: float) -> float:
    if op == "+":
        return left + right
    if op == "-":
        return left - right
    if op == "*":
        return left * right
    ratio = left / right
    if op == "/":
        return ratio
    return left - math.floor(ratio) * right if math.isfinite(ratio) else math.nan
