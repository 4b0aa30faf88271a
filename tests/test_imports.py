"""The shape of the tree, held by the build: which package may import which, and what a pure module may not touch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ALLOWED = {
    "schemas": {"schemas"},
    "streams": {"schemas", "streams"},
    "processors": {"schemas", "streams", "processors"},
    "sagas": {"schemas", "streams", "sagas"},
}
"""Imports point down; processors and sagas speak by topic."""

IMPURE = {
    "aiokafka", "asyncio", "confluent_kafka", "faust", "logging", "mode", "os", "prometheus_client", "random", "secrets",
    "socket", "structlog", "subprocess", "threading", "time",
}  # fmt: skip
"""What makes a core slow, flaky or dependent on where it runs: I/O, clocks, chance."""


def _modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def _imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that the module imports at run time, inside functions too."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""


def _pure() -> list[Path]:
    # `python -m schemas.catalogue --write` is the one door from the schemas to the disk.
    return [path for path in [*_modules("schemas"), *ROOT.glob("*/core/**/*.py")] if "tests" not in path.relative_to(ROOT).parts]


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_point_down(package: str) -> None:
    """No package imports one above it or beside it."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in _modules(package)
        for line, name in _imports(path)
        if name.partition(".")[0] in ALLOWED and name.partition(".")[0] not in ALLOWED[package]
    ]
    assert not wrong, "\n".join(wrong)


def test_cores_and_schemas_are_pure() -> None:
    """Cores decide from their arguments alone: no broker, no event loop, no clock, no chance, no logging."""
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in _pure()
        for line, name in _imports(path)
        if name.partition(".")[0] in IMPURE
    ]
    assert not wrong, "\n".join(wrong)


def test_only_the_metrics_module_knows_prometheus() -> None:
    """Metrics have one home; everyone else calls an observer."""
    homes = {
        path.relative_to(ROOT).as_posix()
        for package in ALLOWED
        for path in _modules(package)
        for _, name in _imports(path)
        if name.partition(".")[0] == "prometheus_client"
    }
    assert homes <= {"streams/metrics.py"}


def test_there_is_something_to_check() -> None:
    """The test reads the real tree: the four packages have modules, and at least one core."""
    assert all(_modules(package) for package in ("schemas", "streams", "processors"))
    assert any(path.parent.name == "core" for path in _pure())
