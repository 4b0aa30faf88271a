"""Runs recorded cases of Apache Flink CEP through the engine and compares: `antiphon cep check CASES.jsonl`.

A case is a pattern, events, and what Flink 2.2 made of them; the format is described in docs/cep-differences.md. Compared as
multisets:
matches with the time they were found at, timed-out partial matches, late events, and whether the pattern was refused.

Left out: cases whose `ties` is `observed`, where Flink's own answer hangs on the order in which a queue holds equals. Deliberate
deviations are rules (`DEVIATIONS`): a case that differs is run again as the rule says, and must then agree to the letter.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import ValidationError

from processors.core.cep.automaton import Automaton, PatternError
from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.expressions import ExpressionError
from processors.core.cep.general import KeyState
from processors.core.cep.model import Pattern
from processors.core.cep.outputs import EventFields, Outputs, SkipMissed

__all__ = ["DEVIATIONS", "Backend", "CaseError", "Found", "Verdict", "cases_of", "check_case", "check_file", "run_case"]

Backend = Literal["auto", "general", "generated"]
Flags = dict[str, bool]
Status = Literal["passed", "failed", "deviation", "skipped"]

FOREVER: Final = (1 << 63) - 1
"""The final watermark `max`: the last time that there is."""

PARTIAL_MATCHES_MAX: Final = 1_000_000
"""Nothing is evicted in a check: Flink has no such limit."""

EXACT: Final = 1 << 53
"""Whole numbers up to here are exact as doubles; the case format says that numbers are doubles."""

DEVIATIONS: Final[Mapping[str, str]] = {
    "deadline-timers": (
        "a window between two events (`previous_and_current`, `times.within_ms`) ends at the watermark that passes it;"
        " Flink's operator sets no timer for it and notices with the key's next event"
    ),
    "clock-per-event": (
        "a key's clock is moved before every event; Flink's operator moves it once for all events of one time, and does not"
        " notice that the first of them brought a partial match to where its wait was over already"
    ),
}
"""Rules by which we differ from Flink on purpose, each with its reason."""


class CaseError(ValueError):
    """A line that is no case: says which line and why."""


@dataclass(slots=True)
class Found:
    """What a run made of a case, by event ids."""

    matches: Counter[str] = field(default_factory=Counter)
    timed_out: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    error: str | None = None

    def differences(self, other: Found) -> list[str]:
        """In words, what `other` has more and less."""
        found = [] if self.error == other.error else [f"error: {self.error} expected, {other.error} found"]
        # with an error Flink's operator is not asked for its late events any more
        for name in ("matches", "timed_out", "late") if self.error is None else ("matches", "timed_out"):
            expected, got = getattr(self, name), getattr(other, name)
            found += [f"{name}: missing {count} × {what}" for what, count in (expected - got).items()]
            found += [f"{name}: not expected {count} × {what}" for what, count in (got - expected).items()]
        return found


@dataclass(slots=True, frozen=True)
class Verdict:
    """What became of a case.

    Attributes:
        name: The case's.
        status: "passed", "failed", "deviation" or "skipped".
        rule: The deviation's rule, or why it was skipped.
        differences: In words.
    """

    name: str
    status: Status
    rule: str = ""
    differences: tuple[str, ...] = ()


def cases_of(path: Path) -> Iterator[dict[str, Any]]:
    """The cases of a file, a line each.

    Raises:
        CaseError: A line is no case.
    """
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                case = json.loads(line)
            except ValueError as error:
                raise CaseError(f"{path}:{number}: not JSON: {error}") from None
            if (
                not isinstance(case, dict)
                or not isinstance(case.get("pattern"), dict)
                or not isinstance(case.get("events"), list)
            ):
                raise CaseError(f"{path}:{number}: a case is an object with `pattern` and `events`")
            yield case


def check_file(path: Path, backend: Backend = "auto") -> Iterator[Verdict]:
    """A verdict for each case of a file."""
    for case in cases_of(path):
        yield check_case(case, backend)


def check_case(case: Mapping[str, Any], backend: Backend = "auto") -> Verdict:
    """Compare the engine with the case's expectation."""
    name = str(case.get("name", "?"))
    expect = case.get("expect")
    if not isinstance(expect, Mapping):
        return Verdict(name, "skipped", "it expects nothing")
    if expect.get("ties") == "observed":
        return Verdict(name, "skipped", "Flink's answer hangs on the order of equals in a queue (ties: observed)")
    if expect.get("error") not in {None, "pattern", "runtime"}:
        return Verdict(name, "skipped", f"no answer of Flink's to compare with (error: {expect['error']})")
    expected = _expected(expect)
    differences = expected.differences(run_case(case, backend))
    if not differences:
        return Verdict(name, "passed")
    if case.get("mode") == "operator":
        ways: tuple[tuple[str, Flags], ...] = (
            ("deadline-timers", {"flink_timers": True}),
            ("clock-per-event", {"flink_clock": True}),
            ("clock-per-event", {"flink_timers": True, "flink_clock": True}),
        )
        for rule, flags in ways:
            if not expected.differences(run_case(case, backend, **flags)):
                return Verdict(name, "deviation", rule, tuple(differences))
    return Verdict(name, "failed", "", tuple(differences))


def run_case(
    case: Mapping[str, Any], backend: Backend = "auto", *, flink_timers: bool = False, flink_clock: bool = False
) -> Found:
    """Run a case.

    Args:
        case: In the oracle's format.
        backend: Which backend; one that cannot run the pattern leaves it to the general one.
        flink_timers: Wake a key only when Flink's operator would (mode `operator`).
        flink_clock: Move a key's clock once for all events of one time, as Flink's operator does.

    Returns:
        What was found, by event ids.
    """
    try:
        automaton = compile_pattern(Pattern.from_case(case["pattern"]))
    except (PatternError, ValidationError, ExpressionError):
        return Found(error="pattern")
    driver = _Driver(_matcher(automaton, backend), automaton, flink_timers=flink_timers, flink_clock=flink_clock)
    found = Found()
    try:
        if case.get("mode") == "operator":
            driver.operator(case["events"])
        else:
            driver.nfa(case["events"])
        final = case.get("final_watermark")
        if final is not None:
            driver.watermark(FOREVER if final == "max" else int(final))
    except SkipMissed:
        found.error = "runtime"
    found.late.update(driver.late)
    for match in driver.out.matches:
        found.matches[_spelled(match.stages, match.at)] += 1
    for timed_out in driver.out.timed_out:
        found.timed_out[_spelled(timed_out.stages, timed_out.ts)] += 1
    return found


def _matcher(automaton: Automaton, backend: Backend) -> Matcher:
    try:
        return Matcher(automaton, backend=backend, partial_matches_max=PARTIAL_MATCHES_MAX)
    except PatternError:
        return Matcher(automaton, backend="general", partial_matches_max=PARTIAL_MATCHES_MAX)


class _Driver:
    """Feeds a case to a matcher, in one of the two modes."""

    def __init__(self, matcher: Matcher, automaton: Automaton, *, flink_timers: bool, flink_clock: bool) -> None:
        self.out = Outputs()
        self.late: list[str] = []
        self._matcher = matcher
        self._window_ms = automaton.window_ms
        self._flink_timers = flink_timers
        self._flink_clock = flink_clock
        self._states: dict[Any, Any] = {}
        self._waiting: dict[Any, list[EventFields]] = {}
        self._timers: dict[Any, set[int]] = {}
        self._operator = False
        self._now = -FOREVER - 1

    def nfa(self, items: list[dict[str, Any]]) -> None:
        """Events as they come; a watermark moves every key's clock."""
        for item in items:
            if "watermark" in item:
                self.watermark(item["watermark"])
            else:
                event = _event(item)
                self._waiting.setdefault(event["key"], [])
                self._matcher.run(self._states, [event], self.out)

    def operator(self, items: list[dict[str, Any]]) -> None:
        """Events wait for the watermark; what is behind it is late."""
        self._operator = True
        for item in items:
            if "watermark" in item:
                self.watermark(item["watermark"])
                continue
            event = _event(item)
            if event["ts"] <= self._now:
                self.late.append(event["id"])
                continue
            self._waiting.setdefault(event["key"], []).append(event)
            self._timers.setdefault(event["key"], set()).add(event["ts"])

    def watermark(self, ts: int) -> None:
        """Time is `ts` now."""
        self._now = ts
        for key in sorted(self._waiting, key=self._first_timer) if self._operator else list(self._waiting):
            if self._operator:
                self._wake(key, ts)
            else:
                self._matcher.advance(self._states, key, ts, self.out)

    def _first_timer(self, key: str) -> int:
        """Keys wake in the order of their timers: it counts where one of them ends the run with an error."""
        return min(self._timers.get(key, ()), default=FOREVER)

    def _wake(self, key: str, now: int) -> None:
        timers = self._timers.setdefault(key, set())
        if self._flink_timers and not any(timer <= now for timer in timers):
            return
        timers.difference_update([timer for timer in timers if timer <= now])
        due = sorted((event for event in self._waiting[key] if event["ts"] <= now), key=lambda event: event["ts"])
        self._waiting[key] = [event for event in self._waiting[key] if event["ts"] > now]
        started = False
        clock: int | None = None
        for event in due:
            self._take(event, clock_stands=self._flink_clock and clock == event["ts"])
            clock = event["ts"]
            if self._window_ms and event["ts"] > 0:
                state = self._states.get(key)
                started |= state is not None and any(p.started == event["ts"] for p in self._matcher.view(state))
                if started and event["ts"] + self._window_ms > now:
                    timers.add(event["ts"] + self._window_ms)
        self._matcher.advance(self._states, key, now, self.out)

    def _take(self, event: EventFields, *, clock_stands: bool) -> None:
        """Take an event; where its key's clock is not to be moved, nothing is due until it has been taken."""
        state = self._states.get(event["key"])
        stands = clock_stands and isinstance(state, KeyState)
        if isinstance(state, KeyState) and stands:
            state.due = FOREVER + 1
        self._matcher.run(self._states, [event], self.out)
        state = self._states.get(event["key"])
        if stands and state is not None:
            self._matcher.deadline(state)


def _event(item: Mapping[str, Any]) -> EventFields:
    event: EventFields = {name: _double(value) for name, value in item.items()}
    event["key"] = "" if item.get("key") is None else str(item["key"])
    event["ts"] = item["ts"]
    return event


def _double(value: object) -> object:
    """A whole number too large for a double becomes the nearest one, as the format says."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > EXACT:
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    return value


def _expected(expect: Mapping[str, Any]) -> Found:
    found = Found(error=expect.get("error"))
    matches = expect.get("matches") or []
    at = expect.get("at") or [None] * len(matches)
    for match, ts in zip(matches, at, strict=True):
        found.matches[_named(match, ts)] += 1
    for timed_out in expect.get("timed_out") or []:
        found.timed_out[_named(timed_out["match"], timed_out["ts"])] += 1
    found.late.update(expect.get("late") or [])
    return found


def _named(match: Mapping[str, list[str]], ts: int | None) -> str:
    stages = "; ".join(f"{stage}: {', '.join(ids)}" for stage, ids in sorted(match.items()))
    return f"{stages} @{ts}"


def _spelled(stages: Mapping[str, list[EventFields]], ts: int) -> str:
    return _named({stage: [event["id"] for event in events] for stage, events in stages.items()}, ts)
