"""Every match of a pattern, found by trying every way to fill it: no automaton, no partial matches, nothing of the engine's.

Input is what a case of the oracle holds (the pattern as JSON and events of one key); the meaning is restated from Apache Flink
CEP's documentation, and `test_enumerator` holds it against recorded answers of Flink. In plain words:

1. *Slots.* A pattern is written out in every way its quantifiers allow: a stage that repeats two or three times gives two
   writings, a group is written out once per round, an optional stage is left out or not, `any_of` gives each branch, `all_of`
   each order. A writing is a row of slots, each for one event. Two writings that take the same events are two matches.
2. *Filling.* Slots take events in order of arrival, each event once. A slot's event fulfils the slot's condition. "Taken" in a
   condition means: by the slots before it.
3. *Between two slots* lie the events passed over. The later slot says which may be: none (strict), those that do not fulfil its
   own condition (relaxed), all (any); within a loop `consecutive`, plain, `allow_combinations`. Before the first slot: all.
4. *notFollowedBy* between two stages: no event after the one before it, up to and including the one behind it, fulfils it. Where
   the stage before it is a loop, it is in force from the loop's first event on. An event that completes the match completes it,
   whatever else it fulfils.
5. *notNext*: the event right behind the stage before it does not fulfil it. A loop might end with every event from its minimum
   on, so there it is asked behind each of these.
6. *until*: neither an event of the loop nor one passed over between two of them fulfils it.
7. *greedy*: neither the event of the stage behind the loop, nor one passed over before it, fulfils the loop's condition.
8. *within*: the last event comes less than the window after the first.
9. *At the end* a match stands at its last event's time. After a final notNext it stands when the next event came, in the window,
   and does not fulfil it. After a final notFollowedBy it stands when the clock reaches the window's end without an event that
   does; while the stage before it could take more, at least one event must have come since, to show that it did not.
10. *Timed out* is a filling of the first slots of a writing, one at least, whose window the clock has passed while the next slot
    could still have waited: everything since was passed over as that slot allows.

`scope.out_of_scope` says what is left out: skip strategies, windows between two events, and shapes in which Flink's answer comes
from the way it builds its automaton rather than from its documentation (a negation beside a group, and the like).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from tests.processors.core.cep.naive import Event, Json, Taken, holds

Found = tuple[tuple[tuple[str, tuple[str, ...]], ...], int]
"""Stages with the ids they took, sorted by stage, and the time."""


@dataclass(frozen=True)
class Slot:
    """A place for one event, and what may happen before it is filled. Conditions are expressions of the case format."""

    stage: str
    where: Json
    gap: str
    ends: Json
    """What a relaxed wait for this slot does not pass over."""
    until: Json = None
    repeated: bool = False
    never: tuple[Json, ...] = ()
    never_next: tuple[Json, ...] = ()
    greedy: Json = None
    """The condition of the greedy loop right before."""
    more: bool = False
    """Whether its stage could take another event."""

    def takes(self, event: Event, taken: Taken) -> bool:
        """Rules 2 and 4 to 7 for the slot's own event."""
        unwanted = [*self.never, self.until, self.greedy]
        return holds(self.where, event, taken) and not any(holds(condition, event, taken) for condition in unwanted)

    def passes_over(self, event: Event, taken: Taken) -> bool:
        """Rules 3 to 7 for an event before the slot's."""
        if self.gap == "strict" or (self.gap == "relaxed" and holds(self.ends, event, taken)):
            return False
        unwanted = [*self.never, self.until if self.repeated else None, self.greedy]
        return not any(holds(condition, event, taken) for condition in unwanted)

    def follows(self, since: Sequence[Event], taken: Taken) -> bool:
        """Rule 5 for the first event since the slot before, whether it is passed over or taken."""
        return not since or not any(holds(unwanted, since[0], taken) for unwanted in self.never_next)

    def waits(self, between: Sequence[Event], taken: Taken) -> bool:
        """Whether all events since the slot before may be passed over."""
        return self.follows(between, taken) and all(self.passes_over(event, taken) for event in between)

    def fits(self, between: Sequence[Event], event: Event, taken: Taken, *, completes: bool) -> bool:
        """Whether the slot takes `event` after passing over `between`."""
        own = replace(self, never=()) if completes else self
        if not taken:
            return own.takes(event, taken)
        return own.takes(event, taken) and self.follows([*between, event], taken) and self.waits(between, taken)


@dataclass(frozen=True)
class Writing:
    """One way to write a pattern out, and what its end asks for: a final negation's conditions, and a greedy loop's there."""

    slots: tuple[Slot, ...] = ()
    never: tuple[Json, ...] = ()
    never_next: tuple[Json, ...] = ()
    greedy: Json = None

    def then(self, slots: tuple[Slot, ...], greedy: Json) -> Writing:
        """With more slots behind; a stage left out leaves the negations before it standing."""
        if not slots:
            return replace(self, greedy=greedy)
        first = slots[0]
        greedy_before = first.greedy if self.greedy is None else self.greedy
        head = replace(first, never=self.never + first.never, never_next=self.never_next + first.never_next, greedy=greedy_before)
        return Writing((*self.slots, head, *slots[1:]), greedy=greedy)


# ---------------------------------------------------------------------- rule 1


def writings(stages: Sequence[Json], limit: int, head: str | None = None) -> Iterator[Writing]:
    """Every way to write `stages` out with at most `limit` slots; `head` replaces the first stage's contiguity."""
    found = [Writing()]
    for index, stage in enumerate(stages):
        if stage.get("negated"):
            where, strict = (_where(stage),), stage["contiguity"] == "strict"
            found = [replace(w, never_next=w.never_next + where) if strict else replace(w, never=w.never + where) for w in found]
            continue
        gap = head if index == 0 and head else stage.get("contiguity", "strict")
        behind = stages[index + 1] if index + 1 < len(stages) and stages[index + 1].get("negated") else None
        greedy = _where(stage) if stage.get("greedy") and not _exactly(stage) else None
        found = [
            longer
            for writing in found
            for slots in _rounds(stage, gap, behind, limit - len(writing.slots))
            if len((longer := writing.then(slots, greedy)).slots) <= limit
        ]
    yield from found


def _exactly(stage: Json) -> bool:
    times = stage["times"]
    return times["max"] is not None and max(times["min"], 1) == times["max"]


def _where(stage: Json) -> Json:
    return stage.get("where", True)


def _rounds(stage: Json, gap: str, behind: Json, limit: int) -> Iterator[tuple[Slot, ...]]:
    """A stage as often as its quantifier allows."""
    times = stage.get("times") or {"min": 1, "max": 1}
    least, most = max(times["min"], 1), times["max"]
    if stage.get("optional") or times["min"] == 0:
        yield ()
    inner = "strict" if stage.get("consecutive") else "any" if stage.get("allow_combinations") else "relaxed"
    rows: list[tuple[Slot, ...]] = [()]
    for number in range(1, (limit if most is None else min(limit, most)) + 1):
        first = number == 1
        rows = [
            row + tuple(more)
            for row in rows
            for more in _once(stage, gap if first else inner, limit - len(row))
            if len(row) + len(more) <= limit
        ]
        if behind is not None and not first:
            strict = behind["contiguity"] == "strict"
            added = {"never_next": (_where(behind),) if number > least else ()} if strict else {"never": (_where(behind),)}
            rows = [(*row[:-1], replace(row[-1], **added)) for row in rows]
        if "name" in stage:
            added = {"until": stage.get("until"), "repeated": not first, "more": number != most}
            rows = [(*row[:-1], replace(row[-1], **added)) for row in rows]
        if number >= least:
            yield from rows


def _once(stage: Json, gap: str, limit: int) -> Iterator[tuple[Slot, ...]]:
    """One round of a stage, a group or a choice."""
    if "group" in stage:
        yield from (writing.slots for writing in writings(stage["group"], limit, gap) if writing.slots)
    elif "any_of" in stage:
        branches = [branch if isinstance(branch, list) else [branch] for branch in stage["any_of"]]
        ends = {"op": "or", "args": [_entry(branch[0]) for branch in branches]}
        for branch in branches:
            for writing in writings(branch, limit, gap):
                yield (replace(writing.slots[0], gap=gap, ends=ends), *writing.slots[1:])
    elif "all_of" in stage:
        inner = "strict" if stage.get("consecutive") else "any" if stage.get("allow_combinations") else "relaxed"
        for order in permutations(stage["all_of"]):
            missing = [{"op": "or", "args": [_where(member) for member in order[index:]]} for index in range(len(order))]
            yield tuple(
                Slot(member["name"], _where(member), inner if index else gap, missing[index])
                for index, member in enumerate(order)
            )
    else:
        yield (Slot(stage["name"], _where(stage), gap, _where(stage)),)


def _shortest(stages: Sequence[Json]) -> int:
    """Slots of the shortest writing of stages that are all needed, or a few more."""
    count = 0
    for stage in stages:
        once = _shortest(stage["group"]) if "group" in stage else len(stage.get("all_of", [stage]))
        for branch in stage.get("any_of", ()):
            once = max(once, _shortest(branch if isinstance(branch, list) else [branch]))
        count += once * max((stage.get("times") or {"min": 1})["min"], 1)
    return count


def _entry(stage: Json) -> Json:
    if "group" in stage:
        return _entry(stage["group"][0])
    if "any_of" in stage:
        return {"op": "or", "args": [_entry(branch[0] if isinstance(branch, list) else branch) for branch in stage["any_of"]]}
    if "all_of" in stage:
        return {"op": "or", "args": [_where(member) for member in stage["all_of"]]}
    return _where(stage)


# ---------------------------------------------------------------------- rules 2 to 10


def window_of(pattern: Json) -> int | None:
    """From the first event to the last, ms; None is none."""
    windows = [of["within_ms"] for of in (*pattern["stages"], pattern) if of.get("within_ms") is not None]
    return min(windows, default=None)


def fillings(
    slots: Sequence[Slot], events: Sequence[Event], window: int | None, *, completes: bool = False
) -> Iterator[tuple[Taken, int]]:
    """Every way to fill `slots`: what was taken, and the place of the last event. `completes`: that event is the match's last."""

    def fill(number: int, last: int, taken: Taken) -> Iterator[tuple[Taken, int]]:
        if number == len(slots):
            yield taken, last
            return
        slot = slots[number]
        for place in range(last + 1, len(events)):
            event = events[place]
            if taken and window is not None and event["ts"] - taken[0][1]["ts"] >= window:
                return
            if slot.fits(events[last + 1 : place], event, taken, completes=completes and number == len(slots) - 1):
                yield from fill(number + 1, place, (*taken, (slot.stage, event)))

    return fill(0, -1, ())


def matches(pattern: Json, events: Sequence[Event], end: int | None = None) -> Counter[Found]:
    """All matches of `pattern` among `events` of one key, after which the clock goes to `end` (None: it stays)."""
    found: Counter[Found] = Counter()
    window = window_of(pattern)
    for writing in writings(pattern["stages"], len(events)):
        if not writing.slots:
            continue
        for taken, last in fillings(writing.slots, events, window, completes=not (writing.never or writing.never_next)):
            at = _stands_at(writing, taken, events[last + 1 :], window, end)
            if at is not None:
                found[_found(taken, at)] += 1
    return found


def _stands_at(writing: Writing, taken: Taken, later: Sequence[Event], window: int | None, end: int | None) -> int | None:
    """Rule 9: when the match stands; None if it does not."""
    deadline = None if window is None else taken[0][1]["ts"] + window
    if writing.never_next:
        if not later or (deadline is not None and later[0]["ts"] >= deadline):
            return None
        refused = any(holds(unwanted, later[0], taken) for unwanted in writing.never_next)
        return None if refused else int(later[0]["ts"])
    if not writing.never:
        return int(taken[-1][1]["ts"])
    assert deadline is not None, "a final notFollowedBy has a window"
    unwanted = [*writing.never, *([writing.greedy] if writing.greedy is not None else [])]
    if writing.slots[-1].more and (not later or later[0]["ts"] >= deadline):
        return None
    for event in later:
        if event["ts"] >= deadline:
            return int(event["ts"])
        if any(holds(condition, event, taken) for condition in unwanted):
            return None
    return end if end is not None and end >= deadline else None


def timed_out(pattern: Json, events: Sequence[Event], end: int | None = None) -> set[Found]:
    """Rule 10, as a set: how often the engine keeps one and the same partial match is no part of the meaning."""
    found: set[Found] = set()
    window = window_of(pattern)
    if window is None:
        return found
    clock = max([event["ts"] for event in events] + [end if end is not None else 0], default=0)
    for writing in writings(pattern["stages"], len(events) + _shortest(pattern["stages"])):
        slots = list(writing.slots)
        if writing.never_next:
            slots.append(Slot("", True, "strict", True))  # the event that a final notNext waits for
        for count in range(1, len(slots)):
            for taken, last in fillings(slots[:count], events, window):
                deadline = taken[0][1]["ts"] + window
                between = [event for event in events[last + 1 :] if event["ts"] < deadline]
                if deadline <= clock and slots[count].waits(between, taken):
                    found.add(_found(taken, deadline))
    return found


def _found(taken: Taken, at: int) -> Found:
    stages: dict[str, list[str]] = {}
    for stage, event in taken:
        stages.setdefault(stage, []).append(event["id"])
    return tuple(sorted((stage, tuple(ids)) for stage, ids in stages.items())), at
