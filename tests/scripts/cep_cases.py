"""Fresh random cases in the oracle's format: the whole of it, and a share of patterns that Flink refuses.

`case(seed, number, mode)` is the same for ever. It has groups in groups, several keys, every aggregate and operator over fields
of every type (also missing and null), `until`, `greedy` and windows anywhere, skip strategies to any stage, times from 0, events
at one instant, watermarks in between, disorder and late events (mode `operator`).
"""

from __future__ import annotations

from random import Random
from typing import Any

Json = Any

NAMES = "abc"
KINDS = ("nfa", "operator")
EVENTS_MAX = 11
"""A combination loop doubles with every event: the oracle gives up at 2,000 matches."""
DEPTH_MAX = 3


def op(name: str, *args: Json) -> Json:
    """An operator's expression."""
    return {"op": name, "args": list(args)}


def field(name: str) -> Json:
    """A field of the current event."""
    return {"field": name}


def case(seed: int, number: int, mode: str) -> dict[str, Any]:
    """One case without its expectation."""
    r = Random(f"{mode}/{seed}/{number}")
    pattern = _Patterns(r).pattern()
    events, end = _events(r)
    made: dict[str, Any] = {"name": f"fuzz-{mode}-{seed}-{number}", "source": "tests/scripts/cep_fuzz.py", "mode": mode}
    made["pattern"] = pattern
    if mode == "operator":
        made["events"] = _disordered(r, events)
        made["final_watermark"] = r.choice(["max", end + r.randint(0, 12)])
        return made
    made["events"] = _with_watermarks(r, events) if r.random() < 0.1 else events
    if r.random() < 0.6:
        made["final_watermark"] = r.choice(["max", end + r.randint(0, 12)])
    return made


# ---------------------------------------------------------------------- conditions


def _simple(r: Random) -> Json:
    chance = r.random()
    if chance < 0.55:
        return op("==", field("name"), r.choice(NAMES))
    if chance < 0.68:
        return op("in", field("name"), r.sample(NAMES, 2))
    if chance < 0.78:
        return op("!=", field("name"), r.choice(NAMES))
    if chance < 0.88:
        return op(r.choice(["<", "<=", ">", ">=", "==", "!="]), field("price"), r.randint(0, 4))
    if chance < 0.92:
        return op(r.choice(["and", "or"]), _simple(r), _simple(r))
    if chance < 0.94:
        return op("not", _simple(r))
    return _odd(r)


def _odd(r: Random) -> Json:
    """Other types, and operators that are seldom written."""
    thing = field("thing")
    return r.choice(
        [
            op("==", thing, r.choice([True, False, None, 1, 0, "1", "a"])),
            op("!=", thing, r.choice([True, None, 1, "a"])),
            op("in", thing, r.sample([True, None, 1, 0, "1", "a", 2.5], 2)),
            op(r.choice(["<", ">="]), thing, r.choice(["a", 1, True, None])),
            op(r.choice(["contains", "starts_with"]), thing, r.choice(["a", "1", ""])),
            op("==", op("mod", field("price"), r.choice([2, 3, -2, 0])), r.choice([0, 1])),
            op(">", op(r.choice(["+", "-", "*", "/"]), field("price"), r.choice([thing, 2, 0])), 2),
            op("<", op(r.choice(["neg", "abs"]), field("price")), r.randint(-2, 2)),
            op(">", {"ts": True}, r.randint(3, 9)),
            op("==", field("id"), f"e{r.randint(1, 6)}"),
            op("or", thing, op("not", thing)),
            op("==", op(">", field("price"), 2), op("==", field("name"), "a")),
            True,
            {"const": r.choice([True, "true", 1])},
        ]
    )


def _iterative(r: Random, own: str, before: list[str]) -> Json:
    """Over the events taken."""
    stage = r.choice([*before, own, own, "nowhere"] if r.random() < 0.1 else [*before, own])
    agg = r.choice(["sum", "avg", "min", "max", "first", "last", "count"])
    taken: dict[str, Any] = {"agg": agg, "stage": stage}
    if agg != "count":
        taken["field"] = "thing" if r.random() < 0.15 else "price"
        if r.random() < 0.3:
            taken["default"] = r.choice([0, 2, "a", True])
        condition = op(r.choice(["<", "<=", ">", ">=", "==", "!="]), r.choice([field(taken["field"]), 3]), taken)
        if r.random() < 0.2:
            condition = op("<", op("+", taken, field("price")), r.randint(2, 9))
        if r.random() < 0.1:
            condition = op("<=", op("-", {"ts": True}, {**taken, "field": "ts"}), r.randint(1, 4))
    else:
        condition = op(r.choice(["<", "<=", ">=", "=="]), taken, r.randint(0, 3))
    if r.random() < 0.5:
        condition = op("or", op("==", {"agg": "count", "stage": stage}, 0), condition)
    return condition if r.random() < 0.15 else op("and", _simple(r), condition)


# ---------------------------------------------------------------------- patterns


class _Patterns:
    """One pattern: which names are taken, how many loops there are."""

    def __init__(self, r: Random) -> None:
        self.r = r
        self.names: list[str] = []
        self.loops = 0
        self.careful = r.random() < 0.93
        """Whether to keep to what Flink accepts, as far as that is simple; the rest is for its refusals."""

    def pattern(self) -> dict[str, Any]:
        r = self.r
        stages = self._sequence(r.choices([1, 2, 3, 4], [2, 6, 6, 2])[0], 0)
        made: dict[str, Any] = {"stages": stages}
        last = stages[-1]
        open_end = last.get("negated") and last["contiguity"] == "relaxed"
        if (open_end and self.careful) or r.random() < 0.4:
            made["within_ms"] = r.randint(2, 14)
            if r.random() < 0.15:
                made["within"] = "previous_and_current"
        for stage in stages:
            if r.random() < 0.05:
                stage["within_ms"] = r.randint(1, 9)
                stage["within"] = r.choice(["first_and_last", "previous_and_current"])
        if r.random() < 0.45:
            made["skip"] = self._skip(stages)
        return made

    def _skip(self, stages: list[dict[str, Any]]) -> dict[str, Any]:
        r = self.r
        strategy = r.choice(["no_skip", "to_next", "past_last", "past_last", "to_first", "to_last"])
        skip: dict[str, Any] = {"strategy": strategy}
        if strategy in {"to_first", "to_last"}:
            top = [stage["name"] for stage in stages if "name" in stage and not (self.careful and stage.get("negated"))]
            skip["stage"] = r.choice(top if top and self.careful else [*top, *self.names, "nowhere"])
            if r.random() < 0.07:
                skip["throw_on_miss"] = True
        return skip

    def _name(self) -> str:
        self.names.append(f"s{len(self.names) + 1}")
        return self.names[-1]

    def _sequence(self, count: int, depth: int) -> list[dict[str, Any]]:
        r = self.r
        made: list[dict[str, Any]] = []
        for number in range(count):
            before = made[-1] if made else {}
            empty = before.get("optional") or (before.get("times") or {}).get("min") == 0
            if made and r.random() < 0.17 and not (self.careful and empty):
                earlier, name = list(self.names), self._name()
                where = _iterative(r, name, earlier) if r.random() < 0.15 else _simple(r)
                contiguity = r.choice(["strict", "relaxed"])
                made.append({"name": name, "contiguity": contiguity, "negated": True, "where": where})
                continue
            stage = self._group(depth) if depth < DEPTH_MAX and r.random() < 0.13 else self._single()
            if number:
                stage["contiguity"] = r.choices(["strict", "relaxed", "any"], [3, 5, 2])[0]
            self._quantify(stage, before)
            made.append(stage)
        return made

    def _single(self) -> dict[str, Any]:
        r = self.r
        earlier, name = list(self.names), self._name()
        stage: dict[str, Any] = {"name": name}
        if r.random() < 0.95:
            stage["where"] = _iterative(r, name, earlier) if r.random() < 0.2 else _simple(r)
        return stage

    def _group(self, depth: int) -> dict[str, Any]:
        return {"group": self._sequence(self.r.choices([1, 2, 3], [3, 6, 1])[0], depth + 1)}

    def _quantify(self, stage: dict[str, Any], before: dict[str, Any]) -> None:
        r = self.r
        single = "name" in stage
        if r.random() < (0.5 if self.loops == 0 else 0.22):
            self.loops += 1
            times = stage["times"] = self._times()
            inner = r.random()
            if inner < 0.25:
                stage["consecutive"] = True
            elif inner < 0.37:
                stage["allow_combinations"] = True
            if r.random() < 0.25 and ((single and not stage.get("allow_combinations")) or not self.careful):
                stage["greedy"] = True
            if r.random() < 0.25 and (times["max"] is None or not self.careful):
                stage["until"] = _iterative(r, self.names[-1], self.names[:-1]) if r.random() < 0.3 else _simple(r)
            if r.random() < 0.08:
                times["within_ms"] = r.randint(1, 6)
        empty = (stage.get("times") or {}).get("min") == 0
        if r.random() < 0.18 and not (self.careful and (empty or before.get("greedy"))):
            stage["optional"] = True

    def _times(self) -> dict[str, Any]:
        r = self.r
        least = r.choices([0, 1, 2, 3], [2, 6, 4, 1])[0]
        most = r.choice([None, None, max(least, 1), max(least, 1) + 1, max(least, 1) + 2])
        if not self.careful and r.random() < 0.2:
            most = 0
        return {"min": least, "max": most}


# ---------------------------------------------------------------------- events


def _events(r: Random) -> tuple[list[dict[str, Any]], int]:
    events: list[dict[str, Any]] = []
    ts = r.choice([0, 1, 1, 2, 5])
    keys = r.choice([None, None, None, ["k"], ["k", "l"], ["k", "l", "m", None]])
    names = NAMES + "x" * r.randint(0, 1)
    for number in range(1, r.randint(3, EVENTS_MAX) + 1):
        event: dict[str, Any] = {"id": f"e{number}", "ts": ts}
        key = r.choice(keys) if keys else None
        if key is not None:
            event["key"] = key
        event["name"] = r.choice(names)
        if r.random() < 0.95:
            event["price"] = (
                r.choice([0, 1, 2, 3, 4, 5, 1.5, -1]) if r.random() < 0.93 else r.choice(["3", None, True, 9007199254740993])
            )
        if r.random() < 0.6:
            event["thing"] = r.choice(["a", "ab", "1", "", 1, 0, 2.5, True, False, None])
        events.append(event)
        ts += r.choices([0, 1, 2, 3, 7], [3, 8, 4, 2, 1])[0]
    return events, ts


def _disordered(r: Random, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lag = r.randint(0, 5)
    shaken = sorted(events, key=lambda event: event["ts"] + r.uniform(0, lag))
    items: list[dict[str, Any]] = []
    newest, mark = 0, -1
    for event in shaken:
        items.append(event)
        newest = max(newest, event["ts"])
        now = newest - r.randint(0, 4)
        if r.random() < 0.4 and now > mark:
            mark = now
            items.append({"watermark": now})
    return items


def _with_watermarks(r: Random, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    for before, event in zip([None, *events], events, strict=False):
        if before is not None and r.random() < 0.2:
            items.append({"watermark": r.randint(before["ts"], event["ts"])})
        items.append(event)
    return items
