"""The tree of errors is as it is drawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages

import processors
import sagas
import schemas
import streams
from schemas.errors import AntiphonError
from streams import errors

PACKAGES = (schemas, streams, processors, sagas)

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
    for package in PACKAGES:  # the tree of classes is complete when all of it is imported
        for module in walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    real = {
        one.__name__: one.__bases__[0].__name__
        for one in _subclasses(AntiphonError)
        if one.__module__.partition(".")[0] in {package.__name__ for package in PACKAGES}
    }
    assert {name: parent for name, parent, _ in _drawn()} == real


def test_fault_retry_and_home_are_as_drawn() -> None:
    """The column says whose fault, the brackets say where it lives and whether trying again can help."""
    for name, _, line in _drawn():
        home = re.match(r" *\(((?:schemas|streams|processors)\.[\w.]+)\)", line["rest"])
        error: type[AntiphonError] = getattr(import_module(home[1] if home else "streams.errors"), name)
        assert error.fault == line["fault"], name
        assert error.retryable == ("(retryable" in line["rest"]), name
        assert error.__doc__, name
