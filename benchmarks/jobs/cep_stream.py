"""The stream and the patterns on which our engine and Flink's are compared: those of the oracle's BENCH.md, exactly.

An event has a type (0 to 19), a key (0 to 999), a value and a time; 2,000,000 events are 2,000 s, about one a second for
each key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

__all__ = ["EVENT_TYPES", "FIRST_TS", "KEYS", "checksum", "draws", "events", "patterns"]

SEED: Final = 42
FIRST_TS: Final = 1_700_000_000_000
EVENT_TYPES: Final = 20
KEYS: Final = 1_000

_MULTIPLIER: Final = 6_364_136_223_846_793_005
_INCREMENT: Final = 1_442_695_040_888_963_407
"""Knuth's 64-bit linear congruential generator (MMIX)."""
_MASK: Final = (1 << 64) - 1


def draws(count: int) -> Iterator[tuple[int, int, float, int]]:
    """Yield (type, key, value, ts) of the first `count` events."""
    s = SEED
    for ts in range(FIRST_TS, FIRST_TS + count):
        s = (s * _MULTIPLIER + _INCREMENT) & _MASK
        kind = (s >> 33) % EVENT_TYPES
        s = (s * _MULTIPLIER + _INCREMENT) & _MASK
        key = (s >> 33) % KEYS
        s = (s * _MULTIPLIER + _INCREMENT) & _MASK
        yield kind, key, (s >> 33) % 100_000 / 100.0, ts


def events(count: int) -> list[dict[str, Any]]:
    """The first `count` events as the engine takes them."""
    return [{"type": kind, "key": key, "value": value, "ts": ts} for kind, key, value, ts in draws(count)]


def checksum(stages: dict[str, list[dict[str, Any]]]) -> int:
    """What one match adds to the checksum."""
    return sum(event["ts"] - FIRST_TS for taken in stages.values() for event in taken)


def _type(*kinds: int | str) -> dict[str, Any]:
    field = {"field": "type"}
    return {"op": "==", "args": [field, kinds[0]]} if len(kinds) == 1 else {"op": "in", "args": [field, list(kinds)]}


def _failures(times: dict[str, Any], name: Callable[[int], int | str], **more: Any) -> dict[str, Any]:
    fail = {"name": "fail", "where": _type(name(3), name(4), name(5)), "times": times}
    none = {"name": "ok", "contiguity": "relaxed", "negated": True, "where": _type(name(6))}
    return {"stages": [fail, none], "within_ms": 30_000, **more}


def patterns(name: Callable[[int], int | str] = int) -> dict[str, dict[str, Any]]:
    """The patterns as data, by name.

    Args:
        name: Makes an event's `type` of the number of its type.
    """
    relaxed = {"contiguity": "relaxed"}
    rising = {
        "op": "or",
        "args": [
            {"op": "==", "args": [{"agg": "count", "stage": "r"}, 0]},
            {"op": ">", "args": [{"field": "value"}, {"agg": "last", "stage": "r", "field": "value"}]},
        ],
    }
    return {
        "P1": {
            "stages": [
                {"name": "A", "where": _type(name(0))},
                {"name": "B", "where": _type(name(1)), **relaxed},
                {"name": "C", "where": _type(name(2)), **relaxed},
            ],
            "within_ms": 10_000,
        },
        "P2": _failures({"min": 3, "max": None}, name),
        "P2x3": _failures({"min": 3, "max": 3}, name),
        "P3": {"stages": [{"name": "r", "where": rising, "times": {"min": 4, "max": 4}, "consecutive": True}]},
        "P2skip": _failures({"min": 3, "max": None}, name, skip={"strategy": "past_last"}),
    }
