"""Patterns as data: what a YAML file, the builder and the patterns topic all come down to.

::

    Definition                 a pattern with a name, the topics it reads, and its limits
    └── Pattern                the stages in order, the window, what to skip after a match
        └── Stage              one of   name        a stage: one event, or as many as `times` says
                                        group       a sequence in parentheses
                                        any_of      one of several sequences      (not in Flink)
                                        all_of      every stage once, in any order (not in Flink)

What holds for every value that exists: shapes, names and numbers are within the limits below, and it cannot be changed.
`X.model_validate(x.to_data()) == x`. What is not promised: that the pattern means anything. What Flink refuses (a name twice,
`until` without a loop, a negation after an optional stage, ...) `engine.compile_pattern` refuses, with a `PatternError`.

`where` and `until` are read from text (a string, see `text`), from the data form of `expressions`, or taken as a tree. They are
written in the data form. In the oracle's case files a bare string is a literal: `Pattern.from_case` reads those.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    StrictBool,
    StrictInt,
    StrictStr,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticKnownError

from processors.core.cep.expressions import Agg, Const, Expr, Op, Ts, from_data, to_data
from processors.core.cep.expressions import Field as FieldOf
from processors.core.cep.limits import (
    ALL_OF_MAX,
    BRANCHES_MAX,
    DESCRIPTION_CHARS_MAX,
    DISORDER_MS_MAX,
    FIELD_CHARS_MAX,
    GROUPS_DEPTH_MAX,
    IDLE_AFTER_MS,
    NAME_CHARS_MAX,
    PARTIAL_MATCHES_MAX,
    STAGES_MAX,
    TIMES_MAX,
    TOPICS_MAX,
    TYPES_MAX,
    WITHIN_MS_MAX,
)
from processors.core.cep.text import from_text

__all__ = [
    "Contiguity",
    "Definition",
    "Pattern",
    "Skip",
    "Stage",
    "Strategy",
    "Times",
    "Within",
    "stages_in",
]

Contiguity = Literal["strict", "relaxed", "any"]
Strategy = Literal["no_skip", "to_next", "past_last", "to_first", "to_last"]
Within = Literal["first_and_last", "previous_and_current"]

_PATTERN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*\Z")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}\Z")


def _stage_name(name: str) -> str:
    if not name.isprintable() or not name.strip():
        raise ValueError("a stage's name has printable characters, and not only blanks")
    if ":" in name:
        raise ValueError("a stage's name has no ':': states of the automaton are numbered behind one")
    return name


def _pattern_name(name: str) -> str:
    if not _PATTERN_NAME.match(name):
        raise ValueError("a pattern's name has letters, digits, '.', '_' and '-', and begins with a letter or digit")
    return name


def _topic(name: str) -> str:
    if not _TOPIC.match(name) or name in {".", ".."}:
        raise ValueError("a topic's name has 1 to 249 letters, digits, '.', '_' and '-'")
    return name


def _condition(value: object) -> Expr:
    if isinstance(value, str):
        return from_text(value)
    if isinstance(value, Const | FieldOf | Ts | Agg | Op):
        return from_data(to_data(value))  # a tree made by hand keeps the limits too
    return from_data(value)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters are allowed")
    return text


StageName = Annotated[StrictStr, Field(min_length=1, max_length=NAME_CHARS_MAX), AfterValidator(_stage_name)]
Condition = Annotated[Expr, PlainValidator(_condition), PlainSerializer(to_data)]


def _some_time(ms: int, info: ValidationInfo) -> int:
    if ms == 0 and not (info.context and info.context.get("case")):  # Flink takes 0 for no window
        raise PydanticKnownError("greater_than_equal", {"ge": 1})
    return ms


Ms = Annotated[StrictInt, Field(ge=0, le=WITHIN_MS_MAX), AfterValidator(_some_time)]
Word = Annotated[StrictStr, Field(min_length=1, max_length=FIELD_CHARS_MAX), AfterValidator(_printable)]
Topic = Annotated[StrictStr, AfterValidator(_topic)]


class _Data(BaseModel):
    """Frozen, nothing but what is declared, and back to the data that it came from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_data(self) -> dict[str, Any]:
        """What JSON can hold, without what has its default. `model_validate` makes an equal value of it."""
        return self.model_dump(mode="json", exclude_defaults=True)


class Times(_Data):
    """How often a stage repeats.

    Attributes:
        min: At least; 0 makes the stage optional.
        max: At most; None is no bound.
        within_ms: Between one repetition and the next, at most.
    """

    min: Annotated[StrictInt, Field(ge=0, le=TIMES_MAX)]
    max: Annotated[StrictInt, Field(ge=0, le=TIMES_MAX)] | None = None
    within_ms: Ms | None = None


class Skip(_Data):
    """What a match does to the partial matches that share events with it.

    Attributes:
        strategy: `no_skip` keeps all; `to_next` drops those that began with the same event; `past_last` those that began before
            the match's end; `to_first` and `to_last` those that began before the match's first or last event of `stage`.
        stage: The stage that `to_first` and `to_last` need.
        throw_on_miss: Whether a match without an event of `stage` is an error; else it skips nothing.
    """

    strategy: Strategy = "no_skip"
    stage: StageName | None = None
    throw_on_miss: StrictBool = False

    @model_validator(mode="after")
    def _has_stage(self) -> Self:
        if self.stage is None and self.strategy in {"to_first", "to_last"}:
            raise ValueError(f"{self.strategy!r} needs 'stage', the name of the stage to skip to")
        return self


def _skip(value: object) -> object:
    return {"strategy": value} if isinstance(value, str) else value


class Stage(_Data):
    """One step of a pattern: a named stage, or a group, an alternation or an all-of without a name.

    Attributes:
        name: Unique in the whole pattern; the events taken are found under it.
        contiguity: How it follows the stage before: `strict` at once, `relaxed` skipping what does not fit, `any` skipping also
            what fits. Of no meaning on the first stage.
        negated: What must not come: `strict` not as the next event, `relaxed` not until the stage behind it.
        where: The condition; None takes every event.
        until: Ends a loop without an upper bound: an event for which it holds is not taken, nor any later one.
        times: How often; None is once.
        optional: Whether the stage may take nothing.
        greedy: Whether an event that fits the loop and the stage behind it goes to the loop only.
        consecutive: Whether the loop's events come one right after the other (inside an `all_of`, its stages).
        allow_combinations: Whether the loop also skips events that fit (inside an `all_of`, between its stages).
        group: A sequence of stages in place of a name.
        any_of: Alternatives in place of a name, each a sequence of stages. A branch of one stage may be written without the list.
        all_of: Stages in place of a name, each taken once, in any order.
        within_ms: The window, as `within` says.
        within: `first_and_last`: of the whole pattern; `previous_and_current`: from the event taken before to this stage's.
    """

    name: StageName | None = None
    contiguity: Contiguity = "strict"
    negated: StrictBool = False
    where: Condition | None = None
    until: Condition | None = None
    times: Times | None = None
    optional: StrictBool = False
    greedy: StrictBool = False
    consecutive: StrictBool = False
    allow_combinations: StrictBool = False
    group: Stages | None = None
    any_of: Annotated[tuple[Branch, ...], Field(min_length=2, max_length=BRANCHES_MAX)] | None = None
    all_of: Annotated[tuple[Stage, ...], Field(min_length=2, max_length=ALL_OF_MAX)] | None = None
    within_ms: Ms | None = None
    within: Within = "first_and_last"

    @model_validator(mode="after")
    def _is_one_thing(self) -> Self:
        kinds = [kind for kind in ("name", "group", "any_of", "all_of") if getattr(self, kind) is not None]
        if len(kinds) != 1:
            found = " and ".join(repr(kind) for kind in kinds) or "none of them"
            raise ValueError(f"a stage has one of 'name', 'group', 'any_of' and 'all_of', and this has {found}")
        if self.name is None and self.where is not None:
            raise ValueError(f"'{kinds[0]}' has no condition of its own: put 'where' on its stages")
        if self.negated and self.name is None:
            raise ValueError(f"'{kinds[0]}' cannot be negated: negate a single stage")
        if self.negated and self.contiguity == "any":
            raise ValueError("a negated stage is 'strict' (not next) or 'relaxed' (not until the stage behind it), never 'any'")
        for member in self.all_of or ():
            if member != Stage(name=member.name or "-", where=member.where):
                raise ValueError("a stage of 'all_of' has 'name' and 'where', nothing else")
        return self


def _branch(value: object) -> object:
    return [value] if isinstance(value, Mapping | Stage) else value


def _begins(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    if stages and stages[0].negated:
        raise ValueError("the first stage cannot be negated: something must have come before it")
    return stages


Stages = Annotated[tuple[Stage, ...], Field(min_length=1, max_length=STAGES_MAX), AfterValidator(_begins)]
"""A sequence: at least one stage, the first not negated."""
Branch = Annotated[Stages, BeforeValidator(_branch)]
Stage.model_rebuild()


def stages_in(stages: tuple[Stage, ...]) -> Iterator[Stage]:
    """Every stage of a sequence, outer ones before those inside, in the order they are written."""
    for stage in stages:
        yield stage
        yield from stages_in(stage.group or ())
        for branch in stage.any_of or ():
            yield from stages_in(branch)
        yield from stages_in(stage.all_of or ())


def _depth(stages: tuple[Stage, ...]) -> int:
    inside = (
        _depth(inner) for stage in stages for inner in (stage.group or (), *(stage.any_of or ()), stage.all_of or ()) if inner
    )
    return 1 + max(inside, default=0)


class Pattern(_Data):
    """The body of a pattern: what FORMAT.md of the oracle describes, with `any_of` and `all_of`.

    Attributes:
        stages: In order.
        within_ms: The window, as `within` says; None is none.
        within: `first_and_last`: from the first event to the last; `previous_and_current`: of the last stage.
        skip: After a match; a bare string is the strategy.
    """

    stages: Stages
    within_ms: Ms | None = None
    within: Within = "first_and_last"
    skip: Annotated[Skip, BeforeValidator(_skip)] = Skip()

    @model_validator(mode="after")
    def _has_bounds(self) -> Self:
        if _depth(self.stages) > GROUPS_DEPTH_MAX:
            raise ValueError(f"groups nest deeper than {GROUPS_DEPTH_MAX}: make the pattern flatter")
        count = sum(1 for _ in stages_in(self.stages))
        if count > STAGES_MAX:
            raise ValueError(f"the pattern has {count} stages, at most {STAGES_MAX} are allowed")
        return self

    @classmethod
    def from_case(cls, data: Mapping[str, Any]) -> Self:
        """The pattern of an oracle's case: a bare string in `where` or `until` is a literal there, and every number a double.

        A window of 0 ms is none, as Flink has it; elsewhere it is a mistake.

        Raises:
            pydantic.ValidationError: Its shape is not that of the format.
            ExpressionError: A condition's is not.
        """
        return cls.model_validate({**data, "stages": _case_stages(data.get("stages"))}, context={"case": True})


def _case_stages(stages: object) -> object:
    if isinstance(stages, Mapping):  # a branch of one stage
        return _case_stage(stages)
    return [_case_stages(stage) for stage in stages] if isinstance(stages, list | tuple) else stages


def _case_stage(stage: Mapping[str, Any]) -> dict[str, Any]:
    read = dict(stage)
    for key in ("where", "until"):
        if read.get(key) is not None:
            read[key] = from_data(read[key], doubles=True)
    for key in ("group", "any_of", "all_of"):
        if key in read:
            read[key] = _case_stages(read[key])
    return read


class Definition(_Data):
    """A pattern with everything that running it takes: what lives on the patterns topic.

    Attributes:
        name: The record's key on that topic; letters, digits, '.', '_' and '-'.
        description: For people.
        topics: What it reads; empty is for patterns that are given their events.
        key: The payload's field that says which events belong together; None is the record's key.
        types: Event types that it reads; empty is all. An event of another type does not exist for the pattern: not even `strict`
            sees it.
        disorder_ms: How far back in time an event may be, within its partition, and still be put in order; later ones are late.
        idle_after_ms: A partition without events for so long no longer holds time back.
        partial_matches_max: Of one key; beyond it the oldest are evicted, which is an output.
        timed_out: Whether a partial match whose window ends is an output.
        on_replace: What becomes of partial matches when a new version comes: `drain` lets them finish under the old one,
            `restart` drops them.
        pattern: What to find.
    """

    name: Annotated[StrictStr, Field(min_length=1, max_length=NAME_CHARS_MAX), AfterValidator(_pattern_name)]
    description: Annotated[StrictStr, Field(max_length=DESCRIPTION_CHARS_MAX)] = ""
    topics: Annotated[tuple[Topic, ...], Field(max_length=TOPICS_MAX)] = ()
    key: Word | None = None
    types: Annotated[tuple[Word, ...], Field(max_length=TYPES_MAX)] = ()
    disorder_ms: Annotated[StrictInt, Field(ge=0, le=DISORDER_MS_MAX)] = 0
    idle_after_ms: Annotated[StrictInt, Field(ge=1, le=WITHIN_MS_MAX)] = IDLE_AFTER_MS
    partial_matches_max: Annotated[StrictInt, Field(ge=1, le=PARTIAL_MATCHES_MAX)] = 1000
    timed_out: StrictBool = True
    on_replace: Literal["drain", "restart"] = "drain"
    pattern: Pattern
