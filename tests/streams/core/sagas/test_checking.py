"""Every mistake that keeps a definition from running, named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from streams.core.documents import spelled
from streams.core.sagas import limits
from streams.core.sagas.checking import check
from streams.core.sagas.definition import Definition, Each, Loop, Node, Step
from streams.core.sagas.loading import load_saga
from streams.core.sagas.mistakes import DefinitionErrors

CASES: list[dict[str, str]] = yaml.safe_load((Path(__file__).parents[3] / "data" / "saga-mistakes.yaml").read_text("utf-8"))
WRONG = [case for case in CASES if "at" in case]
GOOD = [case for case in CASES if "at" not in case]


@pytest.mark.parametrize("case", WRONG, ids=lambda case: case["what"])
def test_each_mistake_is_named_with_its_place(case: dict[str, str]) -> None:
    """A mistake is told at its path and line, in words that say what is wrong."""
    with pytest.raises(DefinitionErrors) as caught:
        load_saga(case["saga"])
    fitting = [one for one in caught.value.mistakes if case["words"] in one.reason and spelled(one.path) == case["at"]]
    assert fitting, str(caught.value)
    assert all(one.line for one in fitting)


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case["what"])
def test_what_looks_like_a_mistake_and_is_none(case: dict[str, str]) -> None:
    """Choices keep nodes apart, bodies read what is around them, and an undo has its action's answer."""
    assert check(load_saga(case["saga"])) == ()


def test_a_payload_has_a_size() -> None:
    """What a template says outright is no larger than what may be sent."""
    big = Step(name="a", handler="h", input=["x" * 9_000] * 8)
    (mistake,) = check(Definition(name="s", nodes=(big,)))
    assert str(mistake).startswith("nodes[0].input: node 'a': the payload has 72")


def test_all_mistakes_are_told_at_once() -> None:
    """A definition with several mistakes of different kinds names each of them."""
    nodes: tuple[Node, ...] = (
        Step(name="a", handler="x", after=("nobody",)),
        Loop(name="b", body=(Step(name="c", handler="", timeout_ms=-1),), until="c.ok"),
        Each(name="d", body=(), items="input.x", items_max=2),
    )
    reasons = " / ".join(mistake.reason for mistake in check(Definition(name="s", nodes=nodes, version=0)))
    for words in ("no node 'nobody'", "is no name", "unbounded loop", "1 to 31622400000", "'body' is missing", "1 to 2147483647"):
        assert words in reasons


def test_a_definition_has_a_size() -> None:
    """It travels in one record, so what is too large as a whole is refused, even if each part is small enough."""
    big = ["x" * 10_000] * 6
    found = check(Definition(name="s", nodes=tuple(Step(name=f"n{number}", handler="h", input=big) for number in range(5))))
    assert [mistake.reason.split(" as JSON")[1] for mistake in found] == [
        f", at most {limits.DEFINITION_CHARS_MAX} are allowed: use child sagas"
    ]
