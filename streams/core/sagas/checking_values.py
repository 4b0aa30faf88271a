"""What is wrong with the single values of a definition: names, numbers, and what has to be said beside what."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from streams.core.documents import Path
from streams.core.sagas import limits
from streams.core.sagas.definition import (
    RESERVED,
    Approval,
    Child,
    Choice,
    Definition,
    Each,
    Join,
    Lock,
    Loop,
    Node,
    Retry,
    Signal,
    Step,
    Timer,
)
from streams.core.sagas.mistakes import Mistake
from streams.core.sagas.schedules import why_wrong

__all__ = ["check_values", "located"]

_NAME: Final = re.compile(rf"[A-Za-z_][A-Za-z0-9_]{{0,{limits.NAME_CHARS_MAX - 1}}}")
_OUTER_NAME: Final = re.compile(rf"[A-Za-z0-9_][A-Za-z0-9_.-]{{0,{limits.NAME_CHARS_MAX - 1}}}")
_CODE: Final = re.compile(rf"[^\s\x00-\x1f]{{1,{limits.NAME_CHARS_MAX}}}")

_TIMEOUT: Final = (0, limits.TIMEOUT_MS_MAX)
_CALL: Final = (1, limits.TIMEOUT_MS_MAX)
_RANGES: Final[Mapping[type[Any], Mapping[str, tuple[float, float]]]] = {
    Definition: {"version": (1, limits.VERSION_MAX), "deadline_ms": (1, limits.DEADLINE_MS_MAX)},
    Step: {"timeout_ms": _CALL, "compensation_timeout_ms": _CALL},
    Loop: {"passes_max": (1, limits.PASSES_MAX)},
    Each: {"items_max": (1, limits.ITEMS_MAX), "parallel_max": (0, limits.ITEMS_MAX)},
    Child: {"version": (1, limits.VERSION_MAX), "timeout_ms": _TIMEOUT},
    Approval: {"timeout_ms": _TIMEOUT},
    Signal: {"timeout_ms": _TIMEOUT},
    Timer: {"wait_ms": (0, limits.TIMEOUT_MS_MAX)},
    Lock: {"timeout_ms": _TIMEOUT, "lease_ms": (1_000, limits.TIMEOUT_MS_MAX)},
    Retry: {
        "attempts": (1, limits.ATTEMPTS_MAX),
        "backoff_ms": (0, limits.BACKOFF_MS_MAX),
        "backoff_ms_max": (0, limits.BACKOFF_MS_MAX),
        "factor": (1, limits.FACTOR_MAX),
        "jitter": (0, 1),
    },
}
"""The least and the most that a number may be."""
_BOUNDS: Final = {
    "passes_max": "an unbounded loop: say after how many passes it ends",
    "items_max": "an unbounded list: say how many items it may have",
}


def located(nodes: tuple[Node, ...], path: Path = ("nodes",)) -> Iterator[tuple[Node, Path]]:
    """Every node with its place in the data, bodies included."""
    for index, node in enumerate(nodes):
        yield node, (*path, index)
        if isinstance(node, Loop | Each):
            yield from located(node.body, (*path, index, "body"))


def check_values(definition: Definition) -> list[Mistake]:
    """Every wrong value."""
    found = [*_ranges(definition, ())]
    if not _OUTER_NAME.fullmatch(definition.name):
        found.append(_mistake(("name",), _no_outer_name(definition.name)))
    if len(definition.description) > limits.DESCRIPTION_CHARS_MAX:
        found.append(_mistake(("description",), f"at most {limits.DESCRIPTION_CHARS_MAX} characters are allowed"))
    if not definition.nodes:
        found.append(_mistake((), "there are no nodes: at least one is wanted"))
    found += _inputs(definition)
    lines: dict[str, Path] = {}
    for node, path in located(definition.nodes):
        if node.name in lines:
            found.append(_mistake((*path, "name"), f"the name is taken by another node, {_at(lines[node.name])}", node))
        lines.setdefault(node.name, path)
        found += _of_node(node, path)
        if isinstance(node, Child) and (node.definition, node.version) == (definition.name, definition.version):
            found.append(_mistake((*path, "definition"), "the saga would contain itself for ever; repeat with a loop", node))
        if isinstance(node, Timer) and node.wait_ms >= definition.deadline_ms:
            found.append(_mistake((*path, "wait_ms"), f"the saga's deadline, {definition.deadline_ms} ms, comes before", node))
    return [*found, *_schedules(definition)]


def _of_node(node: Node, path: Path) -> Iterator[Mistake]:
    if node.name in RESERVED:
        yield _mistake((*path, "name"), f"{node.name!r} means something else in expressions: take another name", node)
    elif not _NAME.fullmatch(node.name):
        yield _mistake((*path, "name"), _no_name(node.name), node)
    yield from _ranges(node, path, node)
    for key in ("handler", "compensation", "signal", "definition"):
        name = getattr(node, key, None)
        if isinstance(name, str) and not _OUTER_NAME.fullmatch(name) and (name or key != "compensation"):
            yield _mistake((*path, key), _no_outer_name(name), node)
    check = _CHECKS.get(type(node))
    if check:
        yield from check(node, path)


def _of_choice(choice: Choice, path: Path) -> Iterator[Mistake]:
    if not choice.cases:
        yield _mistake(path, "'cases' is missing: at least one is wanted", choice)
    if len(choice.cases) > limits.CASES_MAX:
        yield _mistake((*path, "cases"), f"{len(choice.cases)} cases, at most {limits.CASES_MAX} are allowed", choice)


def _of_body(node: Loop | Each, path: Path) -> Iterator[Mistake]:
    if not node.body:
        yield _mistake(path, "'body' is missing: at least one node is wanted", node)
    if isinstance(node, Each):
        yield from _need(node, path, limit=limits.ITEMS_MAX)


def _of_approval(node: Approval, path: Path) -> Iterator[Mistake]:
    if len(node.approvers) > limits.APPROVERS_CHARS_MAX:
        yield _mistake((*path, "approvers"), f"at most {limits.APPROVERS_CHARS_MAX} characters are allowed", node)


def _of_timer(node: Timer, path: Path) -> Iterator[Mistake]:
    if bool(node.wait_ms) == bool(node.until):
        yield _mistake(path, "exactly one of 'wait_ms' and 'until' is wanted", node)


def _of_lock(node: Lock, path: Path) -> Iterator[Mistake]:
    if not node.resource:
        yield _mistake((*path, "resource"), "the text is empty: name what the lock protects", node)


def _of_step(step: Step, path: Path) -> Iterator[Mistake]:
    for key in ("retry", "compensation_retry"):
        retry: Retry = getattr(step, key)
        yield from _ranges(retry, (*path, key), step)
        if retry.backoff_ms > retry.backoff_ms_max:
            yield _mistake((*path, key, "backoff_ms"), f"the longest wait, backoff_ms_max, is only {retry.backoff_ms_max}", step)
        if len(retry.never) > limits.CODES_MAX:
            yield _mistake((*path, key, "never"), f"{len(retry.never)} codes, at most {limits.CODES_MAX} are allowed", step)
        for index, code in enumerate(retry.never):
            if not _CODE.fullmatch(code):
                reason = f"a code is a word of 1 to {limits.NAME_CHARS_MAX} characters"
                yield _mistake((*path, key, "never", index), reason, step)
    if step.compensation_input is not None and not step.compensation:
        yield _mistake((*path, "compensation_input"), "there is no 'compensation' that would be given it", step)


def _need(node: Join | Each, path: Path, limit: int) -> Iterator[Mistake]:
    if isinstance(node.need, int) and not 1 <= node.need <= limit:
        yield _mistake((*path, "need"), f"1 to {limit} are allowed, and this is {node.need}", node)


_CHECKS: Final[Mapping[type[Node], Callable[[Any, Path], Iterator[Mistake]]]] = {
    Step: _of_step,
    Choice: _of_choice,
    Loop: _of_body,
    Each: _of_body,
    Join: lambda node, path: _need(node, path, limit=limits.NODES_MAX),
    Approval: _of_approval,
    Timer: _of_timer,
    Lock: _of_lock,
}


def _ranges(holder: object, path: Path, node: Node | None = None) -> Iterator[Mistake]:
    for key, (least, most) in _RANGES.get(type(holder), {}).items():
        value = getattr(holder, key)
        if value < 1 and key in _BOUNDS:
            yield _mistake((*path, key), _BOUNDS[key] + f" (1 to {most})", node)
        elif not least <= value <= most:  # NaN is in no range
            yield _mistake((*path, key), f"{least} to {most} are allowed, and this is {value}", node)


def _inputs(definition: Definition) -> Iterator[Mistake]:
    if len(definition.inputs) > limits.INPUTS_MAX:
        yield _mistake(("inputs",), f"{len(definition.inputs)} names, at most {limits.INPUTS_MAX} are allowed")
    for index, name in enumerate(definition.inputs):
        if not 1 <= len(name) <= limits.NAME_CHARS_MAX:
            yield _mistake(("inputs", index), f"a name has 1 to {limits.NAME_CHARS_MAX} characters")
        if name in definition.inputs[:index]:
            yield _mistake(("inputs", index), f"{name!r} is here twice")


def _schedules(definition: Definition) -> Iterator[Mistake]:
    if len(definition.schedules) > limits.SCHEDULES_MAX:
        yield _mistake(("schedules",), f"{len(definition.schedules)} schedules, at most {limits.SCHEDULES_MAX} are allowed")
    names: set[str] = set()
    for index, schedule in enumerate(definition.schedules):
        path: Path = ("schedules", index)
        if not _OUTER_NAME.fullmatch(schedule.name):
            yield _mistake((*path, "name"), _no_outer_name(schedule.name))
        if schedule.name in names:
            yield _mistake((*path, "name"), f"the name {schedule.name!r} is taken by another schedule")
        names.add(schedule.name)
        key, reason = why_wrong(schedule)
        if reason:
            yield _mistake((*path, key), reason)
        elif schedule.every_ms and schedule.every_ms < limits.EVERY_MS_MIN:
            yield _mistake((*path, "every_ms"), f"at least {limits.EVERY_MS_MIN} is allowed, and this is {schedule.every_ms}")
        given = schedule.input if isinstance(schedule.input, Mapping) else {}
        missing = [name for name in definition.inputs if name not in given]
        if missing:
            yield _mistake((*path, "input"), f"the missing input: {', '.join(missing)}; the definition asks for it in 'inputs'")


def _mistake(path: Path, reason: str, node: Node | None = None) -> Mistake:
    return Mistake(path=path, reason=reason, node=node.name if node else "")


def _at(path: Path) -> str:
    return ".".join(f"{key}[{index}]" for key, index in zip(path[::2], path[1::2], strict=True))


def _no_name(name: str) -> str:
    return f"{name[:60]!r} is no name: 1 to {limits.NAME_CHARS_MAX} letters, digits and underscores, no digit first"


def _no_outer_name(name: str) -> str:
    return f"{name[:60]!r} is no name: 1 to {limits.NAME_CHARS_MAX} letters, digits, and '_', '-', '.' behind the first"
