"""A pattern as a chain of links, each knowing the one before it: the shape that the compiler walks, from the last to the first.

Here is where a pattern is refused, with Apache Flink CEP's rules (`Pattern`, `Quantifier` and `NFACompiler` of 2.2) and a few
of our own for what Flink does not have. What a link means is in `docs/cep-patterns.md`; what it becomes, in `compiler`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from processors.core.cep.automaton import TRUE, PatternError
from processors.core.cep.limits import ALL_OF_MAX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from processors.core.cep.expressions import Expr
    from processors.core.cep.model import Pattern, Stage

__all__ = ["GROUP", "Link", "chain_of", "links_of"]

Consuming = Literal["strict", "relaxed", "any", "not_follow", "not_next"]
Quantifier = Literal["single", "times", "looping"]

GROUP: Final = "GroupPattern"
"""The name of every group: Flink's, so that `skip` to it means the same."""

END: Final = "$endState$"
"""A name that no stage may have: the final state's."""


@dataclass(slots=True, eq=False)
class Link:
    """One stage or group, and the link before it."""

    name: str
    previous: Link | None
    consuming: Consuming
    condition: Expr = TRUE
    until: Expr | None = None
    quantifier: Quantifier = "single"
    inner: Literal["strict", "relaxed", "any"] = "relaxed"
    optional: bool = False
    greedy: bool = False
    times_from: int = 1
    times_to: int = 1
    times_window_ms: int | None = None
    window_ms: int | None = None
    """From the first event to the last of the pattern."""
    step_window_ms: int | None = None
    """From the event before to the one of this stage."""
    group: Link | None = None
    """The last link of the group's own chain."""
    branches: tuple[Link, ...] = ()
    """Of an alternation: the last link of each branch."""
    members: tuple[Link, ...] = field(default=())
    """Of an all-of: its stages."""
    inner_all: Literal["strict", "relaxed", "any"] = "relaxed"
    """Contiguity between the members of an all-of."""

    @property
    def negated(self) -> bool:
        """Whether this link says what must not come."""
        return self.consuming in {"not_follow", "not_next"}

    def back(self) -> Iterator[Link]:
        """This link and all before it in its chain."""
        link: Link | None = self
        while link is not None:
            yield link
            link = link.previous

    def first(self) -> Link:
        """The head of the chain."""
        *_, head = self.back()
        return head


def links_of(pattern: Pattern) -> Link:
    """The last link of `pattern`'s chain, checked.

    Raises:
        PatternError: The pattern means nothing.
    """
    last = chain_of(pattern.stages)
    if pattern.within_ms is not None:
        _window(last, pattern.within_ms, pattern.within)
    _unique_names(last, set())
    _skip_stage_exists(last, pattern)
    return last


def chain_of(stages: Sequence[Stage]) -> Link:
    """The last link of the chain of `stages`."""
    link: Link | None = None
    for stage in stages:
        link = _link(stage, link)
    assert link is not None, "the model has at least one stage"
    return link


def _link(stage: Stage, previous: Link | None) -> Link:
    if (stage.any_of is not None or stage.all_of is not None) and (stage.times or stage.optional or stage.until):
        return _link(_wrapped(stage), previous)
    name = _name(stage)
    consuming = _consuming(stage, previous, name)
    link = Link(name=name, previous=previous, consuming=consuming)
    if stage.where is not None:
        if stage.group is not None or stage.any_of is not None or stage.all_of is not None:
            raise PatternError("a group has no condition of its own: put `where` on its stages", name)
        link.condition = stage.where
    if stage.group is not None:
        link.group = chain_of(stage.group)
    if stage.any_of is not None:
        link.branches = tuple(chain_of(branch) for branch in stage.any_of)
        _check_branches(link)
    if stage.all_of is not None:
        link.members = _members(stage)
        link.inner_all = "strict" if stage.consecutive else "any" if stage.allow_combinations else "relaxed"
    _times(link, stage)
    if stage.optional:
        _optional(link)
    if stage.all_of is None:
        _inner(link, stage)
    if stage.greedy:
        _greedy(link)
    if stage.until is not None:
        if link.quantifier != "looping":
            raise PatternError("`until` needs a stage that repeats without an upper bound: `times` with no `max`", name)
        link.until = stage.until
    if stage.within_ms is not None:
        _window(link, stage.within_ms, stage.within)
    return link


def _wrapped(stage: Stage) -> Stage:
    """A choice with a quantifier: a group around the bare choice."""
    bare = stage.model_copy(
        update={
            "times": None,
            "optional": False,
            "greedy": False,
            "until": None,
            "contiguity": "strict",
            "within_ms": None,
            **({} if stage.all_of is not None else {"consecutive": False, "allow_combinations": False}),
        }
    )
    own = {"consecutive": False, "allow_combinations": False} if stage.all_of is not None else {}
    return stage.model_copy(update={"any_of": None, "all_of": None, "name": None, "group": (bare,), **own})


def _name(stage: Stage) -> str:
    if stage.group is not None:
        return GROUP
    if stage.any_of is not None:
        return stage.name or "any_of"
    if stage.all_of is not None:
        return stage.name or "all_of"
    assert stage.name is not None, "the model has a name where there is no group"
    return stage.name


def _consuming(stage: Stage, previous: Link | None, name: str) -> Consuming:
    if previous is None:
        return "strict"
    if not stage.negated:
        return stage.contiguity
    if previous.optional:
        raise PatternError(
            f"a negation cannot follow the optional {_called(previous)}: write two patterns, one with and one without it", name
        )
    return "not_next" if stage.contiguity == "strict" else "not_follow"


def _times(link: Link, stage: Stage) -> None:
    times = stage.times
    if times is None:
        return
    if link.negated:
        raise PatternError("what must not come cannot be counted: take `times` off the negated stage", link.name)
    if times.max is None:
        link.quantifier = "looping"
        link.times_from = link.times_to = max(times.min, 1)
        link.times_window_ms = times.within_ms
        if times.min == 0:
            _optional(link)
        return
    if times.max < max(times.min, 1):
        raise PatternError(f"`times` from {times.min} to {times.max}: `max` must be at least `min`, and at least 1", link.name)
    link.quantifier = "times"
    if times.min == 0:
        link.optional = True
    link.times_from, link.times_to = max(times.min, 1), times.max
    link.times_window_ms = times.within_ms


def _optional(link: Link) -> None:
    if link.previous is not None and link.previous.greedy:
        raise PatternError(f"an optional stage cannot follow the greedy {_called(link.previous)}", link.name)
    if link.optional:
        raise PatternError("`optional` is said twice (`times` from 0 says it too): take one away", link.name)
    if link.negated:
        raise PatternError("what must not come cannot be optional: take `optional` off", link.name)
    link.optional = True


def _inner(link: Link, stage: Stage) -> None:
    for wanted, said in (("strict", stage.consecutive), ("any", stage.allow_combinations)):
        if not said:
            continue
        word = "consecutive" if wanted == "strict" else "allow_combinations"
        if link.quantifier == "single":
            raise PatternError(f"`{word}` is about the events of a loop: give the stage `times`", link.name)
        if link.inner != "relaxed":
            raise PatternError("`consecutive` and `allow_combinations` exclude each other: take one away", link.name)
        link.inner = "strict" if wanted == "strict" else "any"


def _greedy(link: Link) -> None:
    if link.negated or link.group is not None or link.branches or link.members:
        raise PatternError("`greedy` is for a single stage that repeats", link.name)
    if link.inner == "any":
        raise PatternError("`greedy` and `allow_combinations` exclude each other: take one away", link.name)
    if link.quantifier == "single":
        raise PatternError("`greedy` is about how often a stage repeats: give it `times`", link.name)
    link.greedy = True


def _window(link: Link, ms: int, between: str) -> None:
    if between == "previous_and_current":
        link.step_window_ms = ms
    else:
        link.window_ms = ms


def _members(stage: Stage) -> tuple[Link, ...]:
    members = stage.all_of or ()
    name = stage.name or "all_of"
    if not 2 <= len(members) <= ALL_OF_MAX:
        raise PatternError(f"`all_of` has {len(members)} stages: from 2 to {ALL_OF_MAX} are allowed", name)
    for member in members:
        if member.negated or member.times or member.optional or member.group or member.any_of or member.all_of or member.until:
            raise PatternError("a stage of `all_of` has a name and a condition, nothing else", member.name or name)
    return tuple(
        Link(name=_name(member), previous=None, consuming="strict", condition=member.where or TRUE) for member in members
    )


def _check_branches(link: Link) -> None:
    for branch in link.branches:
        head = branch.first()
        if head.optional:
            raise PatternError(
                f"the branch that begins with {_called(head)} may be empty: make the whole alternation optional", link.name
            )
        if branch.negated:
            raise PatternError(
                f"a branch cannot end with what must not come: put {_called(branch)} after the alternation", link.name
            )


def _unique_names(last: Link, seen: set[str]) -> None:
    for link in last.back():
        for inner in (*link.branches, *link.members, *((link.group,) if link.group else ())):
            _unique_names(inner, seen)
        if link.group or link.branches or link.members:
            continue
        if link.name in seen or link.name == END:
            raise PatternError("two stages have this name: every name must be another", link.name)
        seen.add(link.name)


def _skip_stage_exists(last: Link, pattern: Pattern) -> None:
    wanted = pattern.skip.stage
    if pattern.skip.strategy not in {"to_first", "to_last"}:
        return
    if wanted is None or not any(link.name == wanted for link in last.back()):
        names = ", ".join(link.name for link in reversed(list(last.back())) if link.name != GROUP)
        raise PatternError(f"`skip` names the stage {wanted!r}, which is not one of the top level ({names})", "skip")


def _called(link: Link) -> str:
    return "group" if link.group is not None else f"stage {link.name!r}"
