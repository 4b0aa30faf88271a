"""The tree of errors is as it is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module

import processors.core.cep.drawing_states
import processors.core.cep.loading
import processors.core.cep.outputs
import processors.history
import processors.patterns.backtest
import processors.patterns.found
import processors.patterns.library
import processors.patterns.store
import streams.coordination.errors
import streams.deadletters
import streams.producer
import streams.registry
import streams.requests
from schemas.errors import AntiphonError
from streams import errors

HOMES = (
    processors.core.cep.drawing_states,
    processors.core.cep.loading,
    processors.core.cep.outputs,
    processors.history,
    processors.patterns.backtest,
    processors.patterns.found,
    processors.patterns.library,
    processors.patterns.store,
    streams.coordination.errors,
    streams.deadletters,
    streams.producer,
    streams.registry,
    streams.requests,
)
"""Modules with errors of their own; the tree of classes is complete when they are imported."""

LINE = re.compile(r"^    (?P<branch>[│├└─ ]*)(?P<name>[A-Z]\w+) +(?P<fault>caller|operator|broker|bug)?(?P<rest>.*)$")
LEVEL_CHARS = 4


def _drawn() -> Iterator[tuple[str, str, re.Match[str]]]:
    """Name, parent's name and line of each error in the docstring, below the root."""
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if found := LINE.match(line):
            level = len(found["branch"]) // LEVEL_CHARS
            path[level:] = [found["name"]]
            if level:
                yield found["name"], path[level - 1], found


def _subclasses(root: type[AntiphonError]) -> Iterator[type[AntiphonError]]:
    for one in root.__subclasses__():
        yield one
        yield from _subclasses(one)


def test_every_error_is_drawn_under_its_parent() -> None:
    """No class of the product is missing, none is drawn that is not there."""
    real = {
        one.__name__: one.__bases__[0].__name__
        for one in _subclasses(AntiphonError)
        if one.__module__.partition(".")[0] in ("schemas", "streams", "processors", "sagas")
    }
    assert {name: parent for name, parent, _ in _drawn()} == real
    assert all(home.__doc__ for home in HOMES)


def test_fault_retry_and_home_are_as_drawn() -> None:
    """The column says whose fault, the brackets say where it lives and whether trying again can help."""
    for name, _, line in _drawn():
        home = re.match(r" *\(((?:schemas|streams|processors)\.[\w.]+)\)", line["rest"])
        error: type[AntiphonError] = getattr(import_module(home[1] if home else "streams.errors"), name)
        assert error.fault == line["fault"], name
        assert error.retryable == ("(retryable" in line["rest"]), name
        assert error.__doc__, name
