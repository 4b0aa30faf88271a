"""Patterns in Python: Flink's vocabulary over the same model that YAML describes.

::

    from processors.core.cep import builder as cep

    stuck = (
        cep.begin("failed").where(cep.field("type") == "tool.failed").times(3)
        .absent("help", cep.field("type") == "help.offered", minutes=5)
        .skip_past_last()
        .definition(name="stuck-agent", topics=["agents.activity"], key="agent")
    )

A `PatternBuilder` is immutable: each method returns another, so a beginning can be shared. `where`, `times`, `optional` and so on
are about the last stage. A wrong call raises `PatternError` at its line, and `build` compiles, so that what it returns runs.
Conditions are `terms` (which this module exports too) or text, never functions: patterns live on a topic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final, Literal

from pydantic import ValidationError

from processors.core.cep.automaton import PatternError
from processors.core.cep.compiler import compile_pattern
from processors.core.cep.limits import IDLE_AFTER_MS
from processors.core.cep.model import Contiguity, Definition, Pattern, Skip, Stage, Within
from processors.core.cep.parts import checked, condition_of, in_words, joined, length_ms, whole_ms
from processors.core.cep.terms import Operand, Term, avg, const, count, field, first, last, max, min, sum, text, ts  # noqa: A004 called as cep.sum

__all__ = [
    "AllOf", "AnyOf", "Operand", "PatternBuilder", "Step", "Term", "all_of", "any_of", "avg", "begin", "const", "count", "field",
    "first", "last", "max", "min", "sum", "text", "ts",
]  # fmt: skip

_NO_SKIP: Final = Skip()


@dataclass(frozen=True, slots=True)
class AnyOf:
    """An alternation; `any_of` makes it."""

    branches: tuple[tuple[Stage, ...], ...]


@dataclass(frozen=True, slots=True)
class AllOf:
    """Stages in any order; `all_of` makes it."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True, slots=True)
class PatternBuilder:
    """A pattern under construction; `begin` makes the first.

    Attributes:
        stages: So far, in order.
        window_ms: From the first event to the last; None is none.
        after_match: What a match skips.
    """

    stages: tuple[Stage, ...]
    window_ms: int | None = None
    after_match: Skip = _NO_SKIP

    # ------------------------------------------------------------------ the next stage

    def next(self, step: Step) -> PatternBuilder:
        """Go on with the very next event: strict contiguity."""
        return self._append(step, "strict")

    def followed_by(self, step: Step) -> PatternBuilder:
        """Go on with the next event that fits, whatever comes between: relaxed contiguity."""
        return self._append(step, "relaxed")

    def followed_by_any(self, step: Step) -> PatternBuilder:
        """Go on with any later event that fits, each in a match of its own: non-deterministic relaxed contiguity."""
        return self._append(step, "any")

    def not_next(self, name: str) -> PatternBuilder:
        """Go on only if the very next event is not this one."""
        return self._append(name, "strict", negated=True)

    def not_followed_by(self, name: str) -> PatternBuilder:
        """Go on only if this does not come before the stage behind it; at the end, before the window is over."""
        return self._append(name, "relaxed", negated=True)

    def absent(
        self,
        name: str,
        condition: Operand = True,
        within: timedelta | None = None,
        *,
        ms: float = 0,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
    ) -> PatternBuilder:
        """End with: nothing of the kind comes within the time after the event taken last. The match is found when the time is up.

        It is `not_followed_by` with a `previous_and_current` window; a window over the whole pattern may be set besides.
        """
        length = length_ms(within, ms=ms, seconds=seconds, minutes=minutes, hours=hours, days=days)
        return self.not_followed_by(name).where(condition)._changed(within_ms=length, within="previous_and_current")

    # ------------------------------------------------------------------ about the last stage

    def where(self, condition: Operand) -> PatternBuilder:
        """Take only events for which this holds too. A string is a condition as text."""
        return self._changed(where=joined("and", self._last.where, condition_of(condition)))

    def or_where(self, condition: Operand) -> PatternBuilder:
        """Take also events for which this holds. A string is a condition as text."""
        if self._last.where is None:
            raise PatternError("`or_where` needs a `where` before it: without one every event is taken already", self._where)
        return self._changed(where=joined("or", self._last.where, condition_of(condition)))

    def until(self, condition: Operand) -> PatternBuilder:
        """End the loop: an event for which this holds is not taken, nor any after it. Needs `one_or_more` or `times_or_more`."""
        if self._last.until is not None:
            raise PatternError("`until` is said twice: join the conditions with `|`", self._where)
        return self._changed(until=condition_of(condition))

    def times(self, at_least: int, at_most: int | None = None, *, within: timedelta | None = None) -> PatternBuilder:
        """Repeat: exactly `at_least` times, or from `at_least` to `at_most`.

        Args:
            at_least: 0 makes the stage optional.
            at_most: None is `at_least`.
            within: Between one repetition and the next, at most.
        """
        return self._repeated(at_least, at_least if at_most is None else at_most, within)

    def times_or_more(self, at_least: int, *, within: timedelta | None = None) -> PatternBuilder:
        """Repeat `at_least` times, and as often as there are events."""
        return self._repeated(at_least, None, within)

    def one_or_more(self, *, within: timedelta | None = None) -> PatternBuilder:
        """Repeat as often as there are events, once at least."""
        return self._repeated(1, None, within)

    def optional(self) -> PatternBuilder:
        """The stage may take nothing."""
        if self._last.optional:
            raise PatternError("`optional` is said twice: take one away", self._where)
        return self._changed(optional=True)

    def greedy(self) -> PatternBuilder:
        """An event that fits the loop and the stage behind it goes to the loop only."""
        return self._changed(greedy=True)

    def consecutive(self) -> PatternBuilder:
        """The loop's events come one right after the other."""
        return self._changed(consecutive=True)

    def allow_combinations(self) -> PatternBuilder:
        """The loop also skips events that fit."""
        return self._changed(allow_combinations=True)

    # ------------------------------------------------------------------ about the pattern

    def within(
        self,
        duration: timedelta | None = None,
        *,
        ms: float = 0,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        between: Within = "first_and_last",
    ) -> PatternBuilder:
        """Set a window.

        Args:
            duration: How long; or in the units below, which are added up.
            ms: Milliseconds.
            seconds: Seconds.
            minutes: Minutes.
            hours: Hours.
            days: Days.
            between: `first_and_last`: the whole pattern takes no longer; said several times, the shortest counts.
                `previous_and_current`: the last stage's event comes no later after the event taken before it.
        """
        length = length_ms(duration, ms=ms, seconds=seconds, minutes=minutes, hours=hours, days=days)
        if between == "previous_and_current":
            return self._changed(within_ms=length, within=between)
        shortest = length if self.window_ms is None or length < self.window_ms else self.window_ms
        return replace(self, window_ms=shortest)

    def no_skip(self) -> PatternBuilder:
        """Find every match: the default."""
        return replace(self, after_match=_NO_SKIP)

    def skip_to_next(self) -> PatternBuilder:
        """After a match, drop the partial matches that began with the same event."""
        return replace(self, after_match=Skip(strategy="to_next"))

    def skip_past_last(self) -> PatternBuilder:
        """After a match, drop the partial matches that began before its end: matches do not overlap."""
        return replace(self, after_match=Skip(strategy="past_last"))

    def skip_to_first(self, stage: str, *, throw_on_miss: bool = False) -> PatternBuilder:
        """After a match, drop the partial matches that began before its first event of `stage`."""
        return self._skip("to_first", stage, throw_on_miss)

    def skip_to_last(self, stage: str, *, throw_on_miss: bool = False) -> PatternBuilder:
        """After a match, drop the partial matches that began before its last event of `stage`."""
        return self._skip("to_last", stage, throw_on_miss)

    # ------------------------------------------------------------------ the result

    def build(self) -> Pattern:
        """The pattern, compiled once to check it.

        Raises:
            PatternError: It means nothing; says which stage and what to do.
        """
        try:
            pattern = Pattern(stages=self.stages, within_ms=self.window_ms, skip=self.after_match)
        except ValidationError as error:
            raise PatternError(in_words(error), "pattern") from None
        compile_pattern(pattern)
        return pattern

    def definition(
        self,
        *,
        name: str,
        description: str = "",
        topics: Iterable[str] = (),
        key: str | None = None,
        types: Iterable[str] = (),
        disorder: timedelta = timedelta(0),
        idle_after: timedelta = timedelta(milliseconds=IDLE_AFTER_MS),
        partial_matches_max: int = 1000,
        timed_out: bool = True,
        on_replace: Literal["drain", "restart"] = "drain",
    ) -> Definition:
        """The pattern with everything that running it takes; `model.Definition` says what each is.

        Raises:
            PatternError: The pattern means nothing, or one of the values is not allowed.
        """
        pattern = self.build()
        try:
            return Definition(
                name=name,
                description=description,
                topics=tuple(topics),
                key=key,
                types=tuple(types),
                disorder_ms=whole_ms(disorder),
                idle_after_ms=whole_ms(idle_after),
                partial_matches_max=partial_matches_max,
                timed_out=timed_out,
                on_replace=on_replace,
                pattern=pattern,
            )
        except ValidationError as error:
            raise PatternError(in_words(error), name or "definition") from None

    # ------------------------------------------------------------------ inside

    @property
    def _last(self) -> Stage:
        return self.stages[-1]

    @property
    def _where(self) -> str:
        return self._last.name or "group"

    def _append(self, step: Step, contiguity: Contiguity, *, negated: bool = False) -> PatternBuilder:
        if self._last.negated and self._last.within == "previous_and_current" and self._last.within_ms is not None:
            raise PatternError("absence with a deadline ends a pattern: nothing comes behind it", self._where)
        return replace(self, stages=(*self.stages, _stage(step, contiguity=contiguity, negated=negated)))

    def _changed(self, **changes: Any) -> PatternBuilder:  # noqa: ANN401 the model checks them
        values = {name: getattr(self._last, name) for name in self._last.model_fields_set} | changes
        return replace(self, stages=(*self.stages[:-1], checked(**values)))

    def _repeated(self, at_least: int, at_most: int | None, within: timedelta | None) -> PatternBuilder:
        if self._last.times is not None:
            raise PatternError("it is said twice how often: take one away", self._where)
        times = {"min": at_least, "max": at_most, "within_ms": None if within is None else length_ms(within)}
        return self._changed(times=times)

    def _skip(self, strategy: Literal["to_first", "to_last"], stage: str, throw_on_miss: bool) -> PatternBuilder:
        try:
            return replace(self, after_match=Skip(strategy=strategy, stage=stage, throw_on_miss=throw_on_miss))
        except ValidationError as error:
            raise PatternError(in_words(error), "skip") from None

    def _sequence(self) -> tuple[Stage, ...]:
        """The stages, as part of another pattern."""
        if self.window_ms is not None or self.after_match != _NO_SKIP:
            raise PatternError("a window and a skip strategy belong to the whole pattern: take them off this part", self._where)
        return self.stages


Step = str | PatternBuilder | AnyOf | AllOf
"""What comes next: a stage by its name, a group (a pattern in parentheses), an alternation, or stages in any order."""


def begin(step: Step) -> PatternBuilder:
    """Begin a pattern with a stage, a group, an alternation, or stages in any order.

    Raises:
        PatternError: The name is not allowed.
    """
    return PatternBuilder((_stage(step),))


def any_of(*branches: PatternBuilder) -> AnyOf:
    """One of several sequences, each in a match of its own where several fit. Not in Flink.

    Args:
        branches: Each begun with `begin`; two at least.
    """
    return AnyOf(tuple(branch._sequence() for branch in branches))


def all_of(*stages: PatternBuilder) -> AllOf:
    """Each stage once, in any order, whatever comes between (`consecutive`, `allow_combinations` change that). Not in Flink.

    Args:
        stages: Each `begin(name)`, with `where` if wanted; two at least.
    """
    members = tuple(stage._sequence() for stage in stages)
    for member in members:
        if len(member) != 1:
            raise PatternError("`all_of` takes single stages, not sequences", member[0].name or "group")
    return AllOf(tuple(member[0] for member in members))


def _stage(step: Step, **others: Any) -> Stage:  # noqa: ANN401 the model checks them
    if isinstance(step, AnyOf):
        return checked(any_of=step.branches, **others)
    if isinstance(step, AllOf):
        return checked(all_of=step.stages, **others)
    if isinstance(step, PatternBuilder):
        return checked(group=step._sequence(), **others)
    return checked(name=step, **others)
