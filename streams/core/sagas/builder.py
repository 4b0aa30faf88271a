"""Sagas written in Python: steps are functions, and the definition is data like any other.

::

    trip = Saga("trip", inputs=["customer"])

    @trip.step(timeout_ms=5_000)
    def book_flight(input): ...            # a handler; `trip.handlers` has it for the participant

    @book_flight.undo
    def cancel_flight(input): ...

    trip.add(Approval(name="ask", after=("book_flight",)))
    pay = trip.step("pay", after=["ask"], pivot=True, input={"price": "=book_flight.price"})

    definition = trip.definition()         # DefinitionErrors, if it cannot run

What is added without `after` follows what was added before it; `after=()` begins beside the first. What a choice names needs
none. Branches in parallel follow the same node, and what follows all of them lists them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields, replace
from typing import Any, Final, TypeVar, overload

from streams.core.sagas.checking import checked
from streams.core.sagas.definition import Choice, Definition, Node, Schedule, Step
from streams.core.sagas.limits import DEADLINE_MS

__all__ = ["Body", "Saga", "StepOf"]

Handler = Callable[..., Any]
NodeT = TypeVar("NodeT", bound=Node)
_STEP_KEYS: Final = frozenset(one.name for one in fields(Step)) - {"name", "after"}


class StepOf:
    """A step that was added: its handler can be called as before, and `undo` names what undoes it."""

    def __init__(self, graph: Body, name: str, handler: Handler | None) -> None:
        self._graph = graph
        self.name = name
        self._handler = handler

    def undo(self, handler: Handler) -> Handler:
        """Let `handler` (a function, by its name) undo the step."""
        self._graph.set_undo(self.name, handler)
        return handler

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 the handler's own
        """Call the handler.

        Raises:
            TypeError: The step was added by name: its handler is elsewhere.
        """
        if self._handler is None:
            raise TypeError(f"the step {self.name!r} was added by its name: there is no function here to call")
        return self._handler(*args, **kwargs)


class Body:
    """A graph that is being put together: that of a saga, or the body of a loop or a list (`nodes()` is given to it)."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._said: list[bool] = []
        self.handlers: dict[str, Handler] = {}

    @overload
    def step(self, handler: Handler, /) -> StepOf: ...
    @overload
    def step(self, name: str, /, *, after: Iterable[str | StepOf] | None = None, **options: Any) -> StepOf: ...  # noqa: ANN401
    @overload
    def step(
        self,
        /,
        *,
        after: Iterable[str | StepOf] | None = None,
        **options: Any,  # noqa: ANN401
    ) -> Callable[[Handler], StepOf]: ...

    def step(
        self,
        handler: Handler | str | None = None,
        /,
        *,
        after: Iterable[str | StepOf] | None = None,
        **options: Any,
    ) -> StepOf | Callable[[Handler], StepOf]:
        """Add a step: as a decorator, with or without options, or by name where the handler is elsewhere.

        Args:
            handler: A function, or the step's name.
            after: What it follows.
            options: Attributes of `Step`; `name` gives a decorated step another name than its function's.

        Raises:
            TypeError: `Step` has no such attribute.
        """
        unknown = sorted(set(options) - _STEP_KEYS - {"name"})
        if unknown:
            raise TypeError(f"a step has no {unknown[0]!r}; it has {', '.join(sorted(_STEP_KEYS))}")

        def add(function: Handler) -> StepOf:
            called = str(options.get("handler", getattr(function, "__name__", "")))
            name = str(options.get("name", called))
            self.add(Step(**{**options, "name": name, "handler": called}), after=after)
            self.handlers[called] = function
            return StepOf(self, name, function)

        if callable(handler):
            return add(handler)
        if handler is None:
            return add
        self.add(Step(**{"handler": handler, **options, "name": handler}), after=after)
        return StepOf(self, handler, None)

    def add(self, node: NodeT, *, after: Iterable[str | StepOf] | None = None) -> NodeT:
        """Add any node.

        Args:
            node: Its own `after` counts, where it is not empty.
            after: What it follows, instead; None: what was added before it.
        """
        said = after is not None or bool(node.after)
        if after is not None:
            names = (after,) if isinstance(after, str | StepOf) else after
            node = replace(node, after=tuple(one.name if isinstance(one, StepOf) else one for one in names))
        self._nodes.append(node)
        self._said.append(said)
        return node

    def set_undo(self, name: str, handler: Handler) -> None:
        """Let `handler` undo the step `name`. See `StepOf.undo`."""
        called = getattr(handler, "__name__", "")
        self._nodes = [
            replace(node, compensation=called) if isinstance(node, Step) and node.name == name else node for node in self._nodes
        ]
        self.handlers[called] = handler

    def nodes(self) -> tuple[Node, ...]:
        """The graph."""
        chosen = {
            target
            for node in self._nodes
            if isinstance(node, Choice)
            for target in (*(case.to for case in node.cases), node.otherwise)
        }
        found: list[Node] = []
        for node, said in zip(self._nodes, self._said, strict=True):
            follows = found and not said and node.name not in chosen
            found.append(replace(node, after=(found[-1].name,)) if follows else node)
        return tuple(found)


class Saga(Body):
    """A definition that is being put together.

    Args:
        name: Of the saga.
        version: From 1: raise it with every change, for instances keep the one that they began with.
        inputs: What its input must have.
        deadline_ms: When it is given up.
        description: For people.
        schedules: When it starts by itself.
        result: What it results in (a template).
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        inputs: Sequence[str] = (),
        deadline_ms: int = DEADLINE_MS,
        description: str = "",
        schedules: Iterable[Schedule] = (),
        result: Any = None,  # noqa: ANN401 JSON
    ) -> None:
        super().__init__()
        self._rest: dict[str, Any] = {
            "name": name,
            "version": version,
            "inputs": tuple(inputs),
            "deadline_ms": deadline_ms,
            "description": description,
            "schedules": tuple(schedules),
            "result": result,
        }

    def definition(self) -> Definition:
        """The definition, checked.

        Raises:
            DefinitionErrors: It cannot run, with everything that is wrong.
        """
        return checked(Definition(nodes=self.nodes(), **self._rest))
