"""A definition as data, and back: which keys there are and what stands under them.

::

    name: trip
    nodes:
      - name: flight                       # a step is what there is most, so `kind: step` need not be said
        compensation: cancel_flight        # nor `handler`, where it is the node's name
      - {name: big, kind: choice, cases: [{when: flight.price > 500, to: ask}], otherwise: pay}
      - {name: ask, kind: approval}
      - {name: pay, after: ask}            # a choice names it too

A node without `after` follows the node before it in the list, unless it is the first or a choice names it: so a plain saga is a
list of steps. `[]` begins beside the first. Everything else is as in `definition`, and what is not said has its default.

One reading tells every mistake of shape; `checking` tells what else is wrong. Written and read again, a definition is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from types import UnionType
from typing import Any, Final, Literal, Union, cast, get_args, get_origin, get_type_hints

from streams.core.documents import Path
from streams.core.sagas.definition import KINDS, Choice, Definition, Node, Signal, Step
from streams.core.sagas.limits import BODIES_DEPTH_MAX, MISTAKES_MAX, NODES_MAX
from streams.core.sagas.mistakes import Mistake
from streams.core.words import did_you_mean, shown

__all__ = ["read_definition", "to_data"]

Json = Any
_ITEMS_MAX: Final = 1_000
"""Items of a list that are looked at; no list of a definition may have as many."""
_FREE: Final = frozenset({"input", "compensation_input", "result", "ask"})
"""Keys under which any JSON may stand."""
_OWN_NAME: Final[Mapping[type[Node], str]] = {Step: "handler", Signal: "signal"}
"""What is the node's name where it is not said."""


# ---- writing


def to_data(definition: Definition) -> dict[str, Json]:
    """`definition` as JSON, without what is as by default; `read_definition` reads an equal one."""
    return _written(definition)


def _written(value: Any) -> dict[str, Json]:  # noqa: ANN401 any of the dataclasses
    data: dict[str, Json] = {}
    if isinstance(value, Node):
        data["name"] = value.name
        if not isinstance(value, Step):
            data["kind"] = value.kind
    for one in fields(value):
        part = getattr(value, one.name)
        if one.name in {"nodes", "body"} and isinstance(part, tuple):
            data[one.name] = _written_nodes(part)
        elif (
            one.name == "after"
            or one.name in data
            or _is_default(one, part)
            or (isinstance(value, Node) and _OWN_NAME.get(type(value)) == one.name and part == value.name)
        ):
            continue
        else:
            data[one.name] = part if one.name in _FREE else _plain(part)
    return data


def _written_nodes(nodes: tuple[Node, ...]) -> list[Json]:
    chosen = _chosen(nodes)
    written: list[Json] = []
    for index, node in enumerate(nodes):
        if not isinstance(node, Node):  # somebody's mistake, which reading tells
            written.append(_plain(node))
            continue
        data = _written(node)
        before = nodes[index - 1] if index else None
        if node.after != _usual(node.name, getattr(before, "name", ""), chosen):
            data = {key: data[key] for key in ("name", "kind") if key in data} | {"after": _plain(node.after)} | data
        written.append(data)
    return written


def _plain(value: Any) -> Json:  # noqa: ANN401 whatever somebody put there
    if is_dataclass(value) and not isinstance(value, type):
        return _written(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _is_default(one: Field[Any], value: object) -> bool:
    if one.default is not MISSING:
        return type(value) is type(one.default) and value == one.default
    return one.default_factory is not MISSING and type(value) is dict and value == one.default_factory()


def _chosen(nodes: tuple[Any, ...]) -> set[str]:
    return {target for node in nodes if isinstance(node, Choice) for target in _targets(_plain(node))}


def _usual(name: object, before: object, chosen: set[str]) -> tuple[str, ...]:
    """What a node follows where nothing is said."""
    return (before,) if isinstance(before, str) and before and isinstance(name, str) and name not in chosen else ()


# ---- reading


def read_definition(data: Json) -> tuple[Definition | None, list[Mistake]]:
    """The definition that `data` is, or none where a mistake of shape is in the way; and every mistake of shape."""
    reader = _Reader()
    read = reader.object(data, Definition, ())
    return (None if reader.mistakes else cast("Definition", read)), reader.mistakes


class _Wrong:
    """In place of what could not be read."""


_WRONG: Final = _Wrong()


class _Reader:
    """One reading."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self._nodes = 0
        self._node = ""

    def refuse(self, path: Path, reason: str, *, key: bool = False) -> _Wrong:
        if len(self.mistakes) <= MISTAKES_MAX:
            self.mistakes.append(Mistake(path=path, reason=reason, node=self._node, at_key=key))
        return _WRONG

    def object(self, data: Json, kind: type[Any], path: Path, given: Mapping[str, Json] | None = None) -> Any:  # noqa: ANN401
        """One of the dataclasses; `given` is what its place says of it."""
        if not isinstance(data, Mapping):
            return self.refuse(path, f"a mapping (keys with values) is wanted, and this is {shown(data)}")
        hints = _hints(cast("Any", kind))
        known = (*hints, "kind") if issubclass(kind, Node) else tuple(hints)
        for key in data:
            if key not in known:
                named = f"no key {str(key)[:60]!r} here; there are {', '.join(known)}.{did_you_mean(key, known)}"
                self.refuse((*path, str(key)), named, key=True)
        values: dict[str, Any] = {}
        for one in fields(kind):
            if one.name in data:
                values[one.name] = self.value(data[one.name], hints[one.name], (*path, one.name))
            elif given and one.name in given:
                values[one.name] = given[one.name]
            elif one.default is MISSING and one.default_factory is MISSING:
                self.refuse(path, f"{one.name!r} is missing")
                values[one.name] = _WRONG
        return _WRONG if any(value is _WRONG for value in values.values()) else kind(**values)

    def value(self, data: Json, hint: Any, path: Path) -> Any:  # noqa: ANN401
        """What a field's type asks for."""
        if hint is Any:
            return data
        if hint in _SIMPLE:
            return self._simple(data, hint, path)
        if get_origin(hint) is tuple:
            return self._list(data, get_args(hint)[0], path)
        if get_origin(hint) is Literal:
            return self._literal(data, get_args(hint), path)
        if get_origin(hint) in {Union, UnionType}:  # Need: one of the words, or a number
            if isinstance(data, int) and not isinstance(data, bool):
                return data
            return self._literal(data, get_args(get_args(hint)[0]), path, also=" and a number")
        return self.object(data, hint, path)

    def _list(self, data: Json, item: Any, path: Path) -> Any:  # noqa: ANN401
        if item is str and isinstance(data, str):
            return (data,)
        if not isinstance(data, list | tuple):
            return self.refuse(path, f"a list ('- ' in front of each item) is wanted, and this is {shown(data)}")
        if len(data) > _ITEMS_MAX:
            return self.refuse(path, f"a list of {len(data)} items, at most {_ITEMS_MAX} are read")
        if item is Node:
            return self._graph(list(data), path)
        items = tuple(self.value(value, item, (*path, index)) for index, value in enumerate(data))
        return _WRONG if any(value is _WRONG for value in items) else items

    def _simple(self, data: Json, hint: type[Any], path: Path) -> Any:  # noqa: ANN401
        if hint is float and isinstance(data, int) and not isinstance(data, bool) and abs(data) < 2**53:
            return float(data)
        if type(data) is hint:
            return data
        advice = ": put it in quotes" if hint is str and isinstance(data, int | float) else ""
        return self.refuse(path, f"{_SIMPLE[hint]} is wanted, and this is {shown(data)}{advice}")

    def _literal(self, data: Json, words: tuple[Any, ...], path: Path, also: str = "") -> Any:  # noqa: ANN401
        if isinstance(data, str) and data in words:
            return data
        return self.refuse(path, f"{', '.join(words)}{also} are allowed, and this is {shown(data)}.{did_you_mean(data, words)}")

    # ---- graphs

    def _graph(self, items: list[Json], path: Path) -> Any:  # noqa: ANN401
        if path.count("body") > BODIES_DEPTH_MAX:
            return self.refuse(path, f"bodies nest deeper than {BODIES_DEPTH_MAX}: let a child saga do it")
        self._nodes += len(items)
        if self._nodes > NODES_MAX:
            return self.refuse(path, f"the definition has more than {NODES_MAX} nodes: let child sagas do parts of it")
        names = [item.get("name") if isinstance(item, Mapping) else None for item in items]
        chosen = {target for item in items if isinstance(item, Mapping) for target in _targets(item)}
        outer = self._node
        read: list[Any] = []
        for index, item in enumerate(items):
            before = names[index - 1] if index else None
            self._node = str(names[index])[:100] if isinstance(names[index], str) else outer
            usual = _usual(names[index], before, chosen)
            read.append(self._read_node(item, (*path, index), {"after": usual}))
        self._node = outer
        return _WRONG if any(node is _WRONG for node in read) else tuple(read)

    def _read_node(self, item: Json, path: Path, given: dict[str, Json]) -> Any:  # noqa: ANN401
        if not isinstance(item, Mapping):
            return self.refuse(path, f"a node (a mapping) is wanted, and this is {shown(item)}")
        kind = item.get("kind", "step")
        if not isinstance(kind, str) or kind not in KINDS:
            hint = did_you_mean(kind, tuple(KINDS))
            return self.refuse((*path, "kind"), f"no kind is {shown(kind)}; there are {', '.join(KINDS)}.{hint}")
        node = KINDS[kind]
        own = _OWN_NAME.get(node)
        name = item.get("name")
        if own and isinstance(name, str):
            given[own] = name
        return self.object(item, node, path, given)


def _targets(item: Mapping[str, Json]) -> list[str]:
    """Where a node of kind choice leads, as far as that can be seen."""
    if item.get("kind") != "choice":
        return []
    cases = item.get("cases")
    found = [case.get("to") for case in cases if isinstance(case, Mapping)] if isinstance(cases, list | tuple) else []
    return [name for name in [*found, item.get("otherwise")] if isinstance(name, str)]


_SIMPLE: Final[Mapping[Any, str]] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


@cache
def _hints(kind: Any) -> dict[str, Any]:  # noqa: ANN401 a type
    hints = get_type_hints(kind)
    return {one.name: hints[one.name] for one in fields(kind)}
