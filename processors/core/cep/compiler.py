"""From a pattern to its automaton, from the last stage to the first: each stage is given the state to go on to, its *sink*.

The construction is Flink's (`NFACompiler` of 2.2), state for state, because which partial matches exist at which moment
decides what a skip strategy removes. The parts:

* a **single** stage is a state that takes its event into the sink and ignores others as its contiguity says: strict ignores
  nothing, relaxed what does not fit, any everything;
* an **optional** stage also proceeds to its sink. What waits then goes on in a second state without that edge, or each event
  that is ignored would split the partial match again;
* **times** is that state several times over; a **loop** ends in a state that takes into itself;
* a **negation** is a stop state, reached by a proceed edge from every state that the negation is about; at the end of a pattern
  with a window it is a pending state;
* a **group** is its chain, compiled with the group's sink; its head ignores as the group says;
* an **alternation** is a state that proceeds to the head of every branch; an **all-of** is a state for each set of stages
  still missing. Both are ours: Flink has neither.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

from processors.core.cep.automaton import TRUE, Automaton, Edge, PatternError, State, conjunction, negation
from processors.core.cep.expressions import Op
from processors.core.cep.links import END, GROUP, Link, links_of
from processors.core.cep.warnings import warnings_of

if TYPE_CHECKING:
    from processors.core.cep.automaton import Kind
    from processors.core.cep.expressions import Expr
    from processors.core.cep.model import Pattern

__all__ = ["STATES_MAX", "compile_pattern"]

STATES_MAX = 2000
"""States of one automaton: a loop of 1,000 times takes as many; more would be a mistake, and slow."""


def compile_pattern(pattern: Pattern) -> Automaton:
    """Compile `pattern`.

    Raises:
        PatternError: The pattern means nothing; says which stage and what to do.
    """
    last = links_of(pattern)
    builder = _Builder(last)
    start = builder.build()
    for index, state in enumerate(builder.states):
        state.index = index
    states = tuple(builder.states)
    skip = pattern.skip
    return Automaton(
        states=states,
        start=start,
        window_ms=builder.window_ms or 0,
        skip=skip.strategy,
        skip_stage=skip.stage if skip.strategy in {"to_first", "to_last"} else None,
        throw_on_miss=skip.throw_on_miss and skip.strategy in {"to_first", "to_last"},
        stages=tuple(dict.fromkeys(_taking(last))),
        warnings=warnings_of(states, start, builder.window_ms or 0),
        empty=_proceeds_to_final(start),
    )


def _taking(last: Link) -> list[str]:
    found: list[str] = []
    for link in reversed(list(last.back())):
        if link.group is not None:
            found += _taking(link.group)
        elif link.branches:
            found += [name for branch in link.branches for name in _taking(branch)]
        elif link.members:
            found += [member.name for member in link.members]
        elif not link.negated:
            found.append(link.name)
    return found


def _proceeds_to_final(start: State) -> bool:
    seen: set[int] = set()
    stack = [start]
    while stack:
        state = stack.pop()
        if id(state) in seen:
            continue
        seen.add(id(state))
        for edge in state.edges:
            if edge.action == "proceed":
                if edge.target.kind == "final":
                    return True
                stack.append(edge.target)
    return False


class _Builder:
    """One compilation: where in the chain it is, and what it has made so far."""

    def __init__(self, last: Link) -> None:
        self.link: Link = last
        self.following: Link | None = None
        self.group: Link | None = None
        self.states: list[State] = []
        self.window_ms: int | None = None
        self._last = last
        self._names: set[str] = set()
        self._stops: dict[str, State] = {}
        self._first_of_loop: dict[Link, bool] = {}
        self._before_greedy: dict[str, State] = {}

    def build(self) -> State:
        """Compile the chain; the start state."""
        sink = self._named(END, "final", "")
        self.window_ms = self._last.window_ms
        sink = self._middle(sink)
        start = self._convert(sink)
        start.kind = "start"
        self._check_windows()
        return start

    def _check_windows(self) -> None:
        if self.window_ms is not None:
            for state in self.states:
                if state.window_ms is not None and state.window_ms > self.window_ms:
                    raise PatternError(
                        f"it may wait {state.window_ms} ms for one event, and the whole {self.window_ms} ms: shorten the first",
                        state.stage,
                    )
        if self._last.consuming == "not_follow" and not self.window_ms:
            pending = next((state for state in self.states if state.name == self._last.name), None)
            if pending is None or not pending.window_ms:
                raise PatternError("a pattern that ends with what must not follow needs `within`: until when?", self._last.name)

    # ------------------------------------------------------------------ states

    def _named(self, name: str, kind: Kind, stage: str) -> State:
        unique = name
        numbers = count()
        while unique in self._names:
            unique = f"{name}:{next(numbers)}"
        self._names.add(unique)
        state = State(unique, kind, stage)
        self.states.append(state)
        if len(self.states) > STATES_MAX:
            raise PatternError(f"it takes more than {STATES_MAX} states: make its loops shorter or fewer", self._last.name)
        return state

    def _state(self, kind: Kind = "normal", *, takes: bool = True) -> State:
        link = self.link
        state = self._named(link.name, kind, "" if link.name == GROUP else link.name)
        if takes:
            if link.quantifier == "single":
                state.window_ms = link.step_window_ms
            elif ":" in state.name:
                state.window_ms = link.times_window_ms
        return state

    def _stop(self, condition: Expr, name: str) -> State:
        stop = self._stops.get(name)
        if stop is None:
            stop = self._stops[name] = self._named(name, "stop", name)
            stop.add("take", stop, condition)
        return stop

    def _copy(self, state: State, name: str) -> State:
        copy = self._named(name, state.kind, state.stage)
        for edge in state.edges:
            target = copy if edge.target is state else edge.target
            copy.edges.append(Edge(edge.action, target, edge.condition, edge.stage))
        return copy

    # ------------------------------------------------------------------ conditions

    def _head_of_group(self) -> bool:
        return self.group is not None and self.link.previous is None

    def _with_group_until(self, condition: Expr | None, *, take: bool) -> Expr | None:
        if self.group is None:
            return condition
        return _with_until(condition, self.group.until, take=take)

    def _take(self, link: Link) -> Expr:
        return self._with_group_until(link.condition, take=True) or TRUE

    def _always(self) -> Expr:
        return self._with_group_until(TRUE, take=True) or TRUE

    def _ignore(self) -> Expr | None:
        consuming: str = self.link.consuming
        if self._head_of_group() and self.group is not None:
            consuming = self.group.consuming if self._first_of_loop.get(self.group, True) else self.group.inner
        return self._with_group_until(_ignored(consuming, _entry(self.link)), take=False)

    def _ignore_inside(self) -> Expr | None:
        consuming = self.group.inner if self._head_of_group() and self.group is not None else self.link.inner
        return self._with_group_until(_ignored(consuming, self.link.condition), take=False)

    def _negations(self) -> list[tuple[Expr, str]]:
        """What must not come before the current link: by the links right before it, through optional ones."""
        found: list[tuple[Expr, str]] = []
        link = self.link
        while link.previous is not None and (link.previous.optional or link.previous.consuming == "not_follow"):
            link = link.previous
            if link.consuming == "not_follow":
                found.append((self._take(link), link.name))
        return found

    # ------------------------------------------------------------------ the chain

    def _middle(self, sink: State) -> State:
        while self.link.previous is not None:
            if self.link.consuming == "not_follow":
                if (self.link.step_window_ms is not None or self.window_ms) and sink.kind == "final":
                    sink = self._pending()
            elif self.link.consuming == "not_next":
                sink = self._not_next(sink)
            else:
                sink = self._convert(sink)
            self.following = self.link
            self.link = self.link.previous
            if self.link.window_ms is not None and (self.window_ms is None or self.link.window_ms < self.window_ms):
                self.window_ms = self.link.window_ms
        return sink

    def _pending(self) -> State:
        state = self._state("pending")
        unwanted = self._take(self.link)
        state.add("proceed", self._stop(unwanted, self.link.name), unwanted)
        state.add("ignore", state, negation(unwanted))
        return state

    def _not_next(self, sink: State) -> State:
        state = self._state()
        unwanted = self._take(self.link)
        stop = self._stop(unwanted, self.link.name)
        state.add("ignore" if sink.kind == "final" else "proceed", sink, negation(unwanted))
        state.add("proceed", stop, unwanted)
        return state

    def _convert(self, sink: State) -> State:
        if self.link.quantifier == "looping":
            self._mark_first(first=False)
            loop = self._loop(self._without_negations(sink))
            self._mark_first(first=True)
            head = self._times(loop, sink)
        elif self.link.quantifier == "times":
            head = self._times(sink, sink)
        else:
            head = self._single(sink, sink, self._take(self.link), self._ignore(), optional=self.link.optional)
        self._stop_at_negations(head)
        return head

    def _mark_first(self, *, first: bool) -> None:
        if self.link.group is not None:
            self._first_of_loop[self.link] = first

    def _stop_at_negations(self, state: State) -> None:
        for condition, name in self._negations():
            state.add("proceed", self._stop(condition, name), condition)

    def _stop_loop(self, state: State) -> None:
        if self.following is not None and self.following.consuming == "not_follow":
            condition = self._take(self.following)
            state.add("proceed", self._stop(condition, self.following.name), condition)

    def _without_negations(self, sink: State) -> State:
        """`sink`, as it is after an optional stage took an event: what had to stay away before it may come now."""
        names = {name for _, name in self._negations()}
        return self._copy_without(sink, names, {}) if names and self.link.optional else sink

    def _copy_without(self, sink: State, names: set[str], made: dict[str, State]) -> State:
        if sink.name in made:
            return made[sink.name]
        copy = made[sink.name] = self._named(sink.name, sink.kind, sink.stage)
        for edge in sink.edges:
            target = edge.target
            if edge.action == "proceed":
                if target.kind == "stop":
                    if target.name in names:
                        continue
                else:
                    target = self._copy_without(target, names, made)
            elif target is sink:
                target = copy
            copy.edges.append(Edge(edge.action, target, edge.condition, edge.stage))
        return copy

    def _times(self, sink: State, proceed: State) -> State:
        link = self.link
        self._mark_first(first=False)
        inside = _with_until(self._ignore_inside(), link.until, take=False)
        take = _with_until(self._take(link), link.until, take=True) or TRUE
        if link.greedy and link.times_from != link.times_to:
            if link.until is not None:
                self._before_greedy[sink.name] = self._copy(sink, sink.name.split(":")[0])
            _only_without(sink, take)
        state = sink
        for _ in range(link.times_from, link.times_to):
            state = self._single(state, proceed, take, inside, optional=True)
            self._stop_loop(state)
        for _ in range(link.times_from - 1):
            state = self._single(state, None, take, inside, optional=False)
            self._stop_loop(state)
        self._mark_first(first=True)
        return self._single(state, proceed, take, self._ignore(), optional=link.optional)

    def _single(self, sink: State, proceed: State | None, take: Expr, ignore: Expr | None, *, optional: bool) -> State:
        if self.link.group is not None:
            return self._grouped(self.link, sink, proceed, optional=optional)
        state = self._state()
        after = self._without_negations(sink)
        self._add_takes(state, after, take)
        if optional and proceed is not None:
            self._proceed_past(state, proceed)
        if ignore is not None:
            waiting = state
            if optional or self._head_of_optional_group():
                waiting = self._state(takes=False)
                self._copy_takes(state, waiting, after, take)
                waiting.add("ignore", waiting, ignore)
                self._stop_at_negations(waiting)
            state.add("ignore", waiting, ignore)
        return state

    def _head_of_optional_group(self) -> bool:
        group = self.group
        return self._head_of_group() and group is not None and self._first_of_loop.get(group, True) and group.optional

    def _proceed_past(self, state: State, proceed: State) -> None:
        always, until = self._always(), self.link.until
        if self.link.greedy and until is not None:
            ended = self._before_greedy.get(proceed.name)
            if ended is not None:
                state.add("proceed", ended, conjunction(always, until))
            state.add("proceed", proceed, conjunction(always, negation(until)))
        else:
            state.add("proceed", proceed, always)

    def _loop(self, sink: State) -> State:
        link = self.link
        if link.group is not None:
            return self._grouped_loop(link, sink)
        ignore = _with_until(self._ignore_inside(), link.until, take=False)
        take = _with_until(self._take(link), link.until, take=True) or TRUE
        always = self._always()
        loop = self._state()
        if link.greedy:
            if link.until is not None:
                ended = self._copy(sink, sink.name.split(":")[0])
                loop.add("proceed", ended, conjunction(always, link.until))
                self._before_greedy[sink.name] = ended
            loop.add("proceed", sink, always if link.until is None else conjunction(always, negation(link.until)))
            _only_without(sink, self._take(link))
        else:
            loop.add("proceed", sink, always)
        loop.add("take", loop, take)
        self._stop_loop(loop)
        if ignore is not None:
            waiting = self._state(takes=False)
            waiting.add("take", loop, take)
            waiting.add("ignore", waiting, ignore)
            loop.add("ignore", waiting, ignore)
            self._stop_loop(waiting)
        return loop

    # ------------------------------------------------------------------ groups and choices

    def _inside(self, group: Link, last: Link, sink: State) -> State:
        outer = (self.link, self.following, self.group)
        self.link, self.group = last, group
        head = self._convert(self._middle(sink))
        self.link, self.following, self.group = outer
        return head

    def _grouped(self, group: Link, sink: State, proceed: State | None, *, optional: bool) -> State:
        assert group.group is not None
        always = self._always()
        head = self._inside(group, group.group, sink)
        if optional and proceed is not None:
            head.add("proceed", proceed, always)
        return head

    def _grouped_loop(self, group: Link, sink: State) -> State:
        assert group.group is not None
        always = self._always()
        again = self._state()
        head = self._inside(group, group.group, again)
        head.add("proceed", sink, always)
        again.add("proceed", head, always)
        return head

    def _add_takes(self, state: State, sink: State, take: Expr) -> None:
        """The edges that take an event out of `state`: of a stage, of every branch, or of every member still missing."""
        link = self.link
        if link.branches:
            for branch in link.branches:
                until = self.group.until if self.group is not None else None
                inner = branch.first().inner
                alone = Link(name=GROUP, previous=None, consuming="strict", inner=inner, group=branch, until=until)
                state.add("proceed", self._inside(alone, branch, sink), self._always())
        elif link.members:
            self._take_members(state, frozenset(range(len(link.members))), sink, {})
        else:
            state.add("take", sink, take)

    def _copy_takes(self, state: State, waiting: State, sink: State, take: Expr) -> None:
        if self.link.branches or self.link.members:
            for edge in state.edges[: len(self.link.branches or self.link.members)]:
                waiting.edges.append(Edge(edge.action, edge.target, edge.condition, edge.stage))
        else:
            waiting.add("take", sink, take)

    def _take_members(self, state: State, missing: frozenset[int], sink: State, made: dict[frozenset[int], State]) -> None:
        members = self.link.members
        for index in sorted(missing):
            rest = missing - {index}
            target = sink
            if rest:
                known = made.get(rest)
                if known is None:
                    known = made[rest] = self._named(self.link.name, "normal", self.link.name)
                    self._take_members(known, rest, sink, made)
                    ignored = self._with_group_until(_ignored(self.link.inner_all, _any_of(members, rest)), take=False)
                    if ignored is not None:
                        known.add("ignore", known, ignored)
                target = known
            taken = self._with_group_until(members[index].condition, take=True) or TRUE
            state.add("take", target, taken, members[index].name)


def _any_of(members: tuple[Link, ...], missing: frozenset[int]) -> Expr:
    return Op("or", tuple(members[index].condition for index in sorted(missing)))


def _entry(link: Link) -> Expr:
    """What the first event of `link` fulfils: a relaxed wait ends with it."""
    if link.group is not None:
        return _entry(link.group.first())
    if link.branches:
        return Op("or", tuple(_entry(branch.first()) for branch in link.branches))
    if link.members:
        return _any_of(link.members, frozenset(range(len(link.members))))
    return link.condition


def _ignored(consuming: str, condition: Expr) -> Expr | None:
    if consuming == "relaxed":
        return negation(condition)
    return TRUE if consuming == "any" else None


def _with_until(condition: Expr | None, until: Expr | None, *, take: bool) -> Expr | None:
    if until is not None and condition is not None:
        return conjunction(negation(until), condition)
    if until is not None and take:
        return negation(until)
    return condition


def _only_without(state: State, condition: Expr) -> None:
    """A greedy loop takes what it can: what comes after it takes only what the loop does not."""
    for edge in state.edges:
        edge.condition = conjunction(edge.condition, negation(condition))
