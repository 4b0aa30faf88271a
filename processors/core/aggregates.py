"""What a window says about its events: numbers that can be added to one by one and merged.

    state = fresh(a)                       add(a, state, fields) ──▶ state'      merge(a, s, t) ──▶ state      result(a, state)
            a JSON value                   never changes what it is given                                    a float, or None

| aggregate | of | its state | exact? |
| --- | --- | --- | --- |
| count | events, or those that have the field | an integer | yes |
| sum, mean | numbers | the sum's partials, and how many | yes: rounded once, when it is read |
| min, max | numbers | the number | yes |
| distinct | texts, numbers, booleans | up to 64 fingerprints, then a HyperLogLog of 2**11 registers | to 64; then 2.3 % |
| quantile | numbers | up to 64 numbers, then a DDSketch of at most 1,024 buckets a sign | to 64; then 1 % of the value |

What holds for all of them but the estimate of a large `distinct`: the result does not depend on the order of the events, nor on
how they were spread over states that were merged later. So a replay, another batch size and a merged session give the same
numbers. That is why sums are kept as exact partials (Shewchuk, "Adaptive Precision Floating-Point Arithmetic", 1997; Python's
`math.fsum`) and why quantiles are no KLL sketch: that one throws coins. A DDSketch (Masson, Rim, Lee, VLDB 2019) counts in
buckets that grow by 2 %, so merging is adding. The HyperLogLog is Apache DataSketches'; it throws no coins, but its estimate
remembers the order of what it saw, within the error given.

Bad input never raises. A field that is absent or None is not there: it counts for nothing. A field of another type than the
aggregate takes, a number that is not finite or beyond `NUMBER_MAX`, is **skipped**, and skipped values are counted by window.
"""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping
from typing import Any, Final, Literal, cast

from datasketches import hll_sketch, hll_union, tgt_hll_type
from ddsketch.mapping import LogarithmicMapping
from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["EXACT_MAX", "NUMBER_MAX", "QUANTILE_ERROR", "Aggregate", "Kind", "add", "fresh", "merge", "result", "weight"]

State = Any
"""What `fresh`, `add` and `merge` return: a JSON value; never changed in place."""
Kind = Literal["count", "sum", "mean", "min", "max", "distinct", "quantile"]

EXACT_MAX: Final = 64
"""Values kept as they are before a sketch takes over: most windows of one key are smaller, and 64 of them take 1.3 KiB stored."""
NUMBER_MAX: Final = 1e290
"""The largest number taken in: 2**53 of them still add up to a finite sum."""
QUANTILE_ERROR: Final = 0.01
"""A quantile beyond `EXACT_MAX` values is off by this part of its value at most."""
BUCKETS_MAX: Final = 1024
"""Buckets of a sign. At 1 % that spans a factor of 8e8 (from a millisecond to nine days); beyond it the smallest run together."""
LOG2_REGISTERS: Final = 11
"""2**11 registers: 2.3 % standard error in 1.1 KiB. One bit more takes twice the room for 1.6 %."""
FIELD_CHARS_MAX: Final = 200

_BUCKETS: Final = LogarithmicMapping(QUANTILE_ERROR)
_NO_FIELD: Final = frozenset({"count"})


class Aggregate(BaseModel):
    """One number about the events of a window, as a definition names it.

    Attributes:
        agg: What it computes.
        field: The payload field; only `count` does without (it then counts events).
        q: For `quantile`: which, from 0 to 1. The value at rank floor(q * (n - 1)), no value in between.

    Raises:
        ValueError: The three do not fit together.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    agg: Kind
    field: str | None = None
    q: float | None = None

    @model_validator(mode="after")
    def _fits(self) -> Aggregate:
        if self.field is None and self.agg not in _NO_FIELD:
            raise ValueError(f"{self.agg} needs a field")
        if self.field is not None and not 1 <= len(self.field) <= FIELD_CHARS_MAX:
            raise ValueError(f"a field has 1 to {FIELD_CHARS_MAX} characters")
        if (self.q is None) != (self.agg != "quantile"):
            raise ValueError("q goes with quantile, and with nothing else")
        if self.q is not None and not 0 <= self.q <= 1:
            raise ValueError(f"q is {self.q}: 0 to 1 is allowed")
        return self


def fresh(a: Aggregate) -> State:
    """Return the state of no events."""
    match a.agg:
        case "count":
            return 0
        case "sum" | "mean":
            return [0, []]
        case "min" | "max":
            return None
        case "distinct" | "quantile":
            return []


def add(a: Aggregate, state: State, fields: Mapping[str, Any]) -> tuple[State, bool]:
    """Take in one event.

    Args:
        a: The aggregate.
        state: Its state; not changed.
        fields: The event's payload.

    Returns:
        The new state, and whether the event's value was skipped for its type or size. The state is then the same object.
    """
    value = None if a.field is None else fields.get(a.field)
    if a.agg == "count":
        return (state + 1 if a.field is None or value is not None else state), False
    if value is None:
        return state, False
    if a.agg == "distinct":
        mark = _fingerprint(value)
        return (state, True) if mark is None else (_with_fingerprints(state, [mark]), False)
    number = _number(value)
    if number is None:
        return state, True
    match a.agg:
        case "min":
            return number if state is None or number < state else state, False
        case "max":
            return number if state is None or number > state else state, False
        case "quantile":
            return _with_numbers(state, [number]), False
        case _:
            return [state[0] + 1, _partials(state[1], number)], False


def merge(a: Aggregate, one: State, other: State) -> State:
    """Return the state of both states' events; neither is changed."""
    match a.agg:
        case "count":
            return one + other
        case "sum" | "mean":
            partials = one[1]
            for part in other[1]:
                partials = _partials(partials, part)
            return [one[0] + other[0], partials]
        case "min" | "max":
            both = [number for number in (one, other) if number is not None]
            return (min(both) if a.agg == "min" else max(both)) if both else None
        case "distinct":
            return _merged_distinct(one, other)
        case "quantile":
            return _merged_quantile(one, other)


def result(a: Aggregate, state: State) -> float | None:
    """Return the number, or None where there is nothing to say it about: a mean of nothing. A sum of nothing is 0."""
    match a.agg:
        case "count":
            return float(state)
        case "sum":
            return math.fsum(state[1])
        case "mean":
            return math.fsum(state[1]) / state[0] if state[0] else None
        case "min" | "max":
            return cast("float | None", state)
        case "distinct":
            return float(len(state)) if isinstance(state, list) else float(round(_loaded(state).get_estimate()))
        case "quantile":
            return _quantile(state, cast(float, a.q))


def weight(state: State) -> int:
    """Return about how many bytes a state takes when stored, not less than it does; for limits on what one row holds."""
    if isinstance(state, list):
        return 24 + 26 * (len(state[1]) if len(state) == 2 and isinstance(state[1], list) else len(state))
    if isinstance(state, dict):
        return len(state["hll"]) + 16 if "hll" in state else 64 + 28 * (len(state["up"]) + len(state["down"]))
    return 24


# ---- numbers


def _number(value: object) -> float | None:
    """Return a value as the float that aggregates work with, or None where it is none of theirs."""
    if type(value) is float:
        return value + 0.0 if -NUMBER_MAX <= value <= NUMBER_MAX else None  # False for nan; -0.0 becomes 0.0
    if type(value) is int and -NUMBER_MAX <= value <= NUMBER_MAX:
        return float(value)
    return None


def _partials(partials: list[float], number: float) -> list[float]:
    """Add a number to a sum kept as floats that do not overlap, smallest first, so that nothing is lost (Shewchuk's growing)."""
    grown = []
    for part in partials:
        big, small = (number, part) if abs(number) >= abs(part) else (part, number)
        number = big + small
        if error := small - (number - big):
            grown.append(error)
    if number:
        grown.append(number)
    return grown


# ---- distinct: a list of fingerprints, then {"hll": base64}


def _fingerprint(value: object) -> int | None:
    """Return 63 bits of a value that are the same in every process, or None for a value that has no equality of its own.

    1, 1.0 and True are three values, and "1" is a fourth: what the producer wrote is what counts.
    """
    kind = type(value)
    if kind not in (str, int, float, bool, bytes):
        return None
    raw = value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(raw, digest_size=8, person=kind.__name__.encode())
    return int.from_bytes(digest.digest(), "big") >> 1


def _loaded(state: State) -> hll_sketch:
    return hll_sketch.deserialize(base64.b85decode(state["hll"]))


def _stored(sketch: hll_sketch) -> State:
    return {"hll": base64.b85encode(sketch.serialize_compact()).decode()}


def _with_fingerprints(state: State, marks: list[int]) -> State:
    if isinstance(state, list):
        new = [mark for mark in marks if mark not in state]
        if not new:
            return state
        if len(state) + len(new) <= EXACT_MAX:
            return sorted([*state, *new])
        sketch = hll_sketch(LOG2_REGISTERS, tgt_hll_type.HLL_4)
        marks = sorted([*state, *new])
    else:
        sketch = _loaded(state)
    for mark in marks:
        sketch.update(mark)
    return _stored(sketch)


def _merged_distinct(one: State, other: State) -> State:
    if isinstance(other, list):
        return _with_fingerprints(one, other) if other else one
    if isinstance(one, list):
        return _with_fingerprints(other, one) if one else other
    union = hll_union(LOG2_REGISTERS)
    union.update(_loaded(one))
    union.update(_loaded(other))
    return _stored(union.get_result(tgt_hll_type.HLL_4))


# ---- quantiles: a sorted list of numbers, then {"zero": n, "up": {bucket: n}, "down": {bucket: n}}


def _with_numbers(state: State, numbers: list[float]) -> State:
    if isinstance(state, list):
        if len(state) + len(numbers) <= EXACT_MAX:
            return sorted([*state, *numbers])
        numbers = [*state, *numbers]
        state = {"zero": 0, "up": {}, "down": {}}
    zero, up, down = state["zero"], dict(state["up"]), dict(state["down"])
    for number in numbers:
        size = abs(number)
        if size < _BUCKETS.min_possible:
            zero += 1
            continue
        side, bucket = up if number > 0 else down, str(_BUCKETS.key(size))
        side[bucket] = side.get(bucket, 0) + 1
    return {"zero": zero, "up": _bounded(up), "down": _bounded(down)}


def _merged_quantile(one: State, other: State) -> State:
    if isinstance(other, list):
        return _with_numbers(one, other) if other else one
    if isinstance(one, list):
        return _with_numbers(other, one) if one else other
    sides = {"up": dict(one["up"]), "down": dict(one["down"])}
    for side, counts in sides.items():
        for bucket, n in other[side].items():
            counts[bucket] = counts.get(bucket, 0) + n
    return {"zero": one["zero"] + other["zero"], "up": _bounded(sides["up"]), "down": _bounded(sides["down"])}


def _bounded(counts: dict[str, int]) -> dict[str, int]:
    """Let the buckets nearest to zero run together until their number is allowed: large values keep their precision."""
    if len(counts) <= BUCKETS_MAX:
        return counts
    order = sorted(counts, key=int)
    first = order[-BUCKETS_MAX]
    kept = {bucket: counts[bucket] for bucket in order[-BUCKETS_MAX:]}
    kept[first] += sum(counts[bucket] for bucket in order[:-BUCKETS_MAX])
    return kept


def _quantile(state: State, q: float) -> float | None:
    if isinstance(state, list):
        return state[math.floor(q * (len(state) - 1))] if state else None
    below = sorted(((int(bucket), n) for bucket, n in state["down"].items()), reverse=True)
    above = sorted((int(bucket), n) for bucket, n in state["up"].items())
    rising = [(-_BUCKETS.value(bucket), n) for bucket, n in below]
    rising.append((0.0, state["zero"]))
    rising += [(_BUCKETS.value(bucket), n) for bucket, n in above]
    rank = math.floor(q * (sum(n for _, n in rising) - 1))
    value = 0.0
    for value, n in rising:  # noqa: B007 the one it stops at
        rank -= n
        if rank < 0:
            break
    return float(value)
