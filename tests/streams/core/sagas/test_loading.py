"""Definitions as data and as files."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.documents import documents_of
from streams.core.sagas.checking import check, from_data
from streams.core.sagas.definition import Approval, Case, Choice, Definition, Retry, Signal, Step
from streams.core.sagas.limits import BODIES_DEPTH_MAX, MISTAKES_MAX, NODES_MAX
from streams.core.sagas.loading import load_saga, load_sagas, to_yaml
from streams.core.sagas.mistakes import DefinitionErrors
from streams.core.sagas.shapes import read_definition, to_data
from tests.streams.core.sagas.strategies import any_definition, good_definitions, json_values

TRIP = """
name: trip
inputs: [customer]
nodes:
  - name: flight
    compensation: cancel_flight
    retry: {attempts: 4, never: [sold_out]}
  - {name: big, kind: choice, cases: [{when: flight.price > 500, to: ask}], otherwise: pay}
  - {name: ask, kind: approval}
  - {name: pay, after: ask, pivot: true}
  - {name: shown, kind: signal}
"""


def test_a_file_is_read() -> None:
    """What is not said is as by default: a step's handler is its name; a node follows the one before, if no choice names it."""
    assert load_saga(TRIP) == Definition(
        name="trip",
        inputs=("customer",),
        nodes=(
            Step(name="flight", handler="flight", compensation="cancel_flight", retry=Retry(attempts=4, never=("sold_out",))),
            Choice(name="big", after=("flight",), cases=(Case("flight.price > 500", "ask"),), otherwise="pay"),
            Approval(name="ask"),
            Step(name="pay", after=("ask",), handler="pay", pivot=True),
            Signal(name="shown", after=("pay",), signal="shown"),
        ),
    )


@settings(max_examples=150)
@given(any_definition)
def test_any_definition_is_written_and_read_again(definition: Definition) -> None:
    """Definition to data to JSON to data to definition: the same, whether it can run or not."""
    data = json.loads(json.dumps(to_data(definition)))
    assert read_definition(data) == (definition, [])


@settings(max_examples=100)
@given(good_definitions())
def test_a_good_definition_survives_yaml(definition: Definition) -> None:
    """What can run is found without a mistake, and is the same behind YAML and JSON."""
    assert check(definition) == ()
    assert load_saga(to_yaml(definition)) == definition
    assert from_data(to_data(definition)) == definition


@settings(max_examples=150)
@given(any_definition)
def test_checks_of_any_definition_only_tell(definition: Definition) -> None:
    """Whatever can be held is checked without an exception, and each mistake has a path that the data has, and one line."""
    data = {0: to_data(definition)}
    for mistake in check(definition):
        here: Any = data[0]
        for key in mistake.path:
            if isinstance(here, dict) and key not in here:  # what is missing, or is as by default
                break
            here = here[key]
        assert "\n" not in mistake.reason


@settings(max_examples=200)
@given(json_values | st.dictionaries(st.sampled_from(["name", "nodes", "inputs", "schedules", "version"]), json_values))
def test_any_data_is_refused_in_one_way(data: object) -> None:
    """Data of any shape raises DefinitionErrors and nothing else."""
    with pytest.raises(DefinitionErrors):
        from_data(data)


@settings(max_examples=100)
@given(good_definitions(), st.data())
def test_a_spoiled_definition_is_refused_in_one_way(definition: Definition, more: st.DataObject) -> None:
    """A good definition in which any one value is replaced is read, or raises DefinitionErrors and nothing else."""
    data = json.loads(json.dumps(to_data(definition)))
    places: list[tuple[Any, Any]] = []
    waiting = [data]
    while waiting:
        here = waiting.pop()
        for key, value in here.items() if isinstance(here, dict) else enumerate(here):
            places.append((here, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    holder, key = more.draw(st.sampled_from(places))
    holder[key] = more.draw(json_values | st.sampled_from(["n0", "which", "=n0.x", "== 1"]))
    try:
        found = from_data(data)
    except DefinitionErrors as error:
        told = bool(error.mistakes) and str(error).startswith("definition: ")
    else:
        told = check(found) == ()
    assert told


def problems(text: str) -> list[str]:
    """What is wrong with a file, a line each, without its name."""
    with pytest.raises(DefinitionErrors) as caught:
        load_sagas(dedent(text), "f")
    return [line.removeprefix("f:") for line in str(caught.value).split("\n")]


def test_mistakes_of_shape_are_told_at_their_line() -> None:
    """All at once: unknown and missing keys, wrong types and words, with what is allowed and what was meant."""
    found = problems("""\
        name: 7
        nodes:
          - {name: a, timeout: 5}
          - {name: b, kind: stpe}
          - {kind: step}
          - {name: c, retry: {attempts: soon}, if_fails: compensat}
          - 5
          - {name: d, kind: join, need: some}
          - {name: e, pivot: "yes"}
    """)
    assert found == [
        "1:7: name: text is wanted, and this is the number 7: put it in quotes",
        (
            "3:15: nodes[0].timeout: node 'a': no key 'timeout' here; there are name, after, handler, input, compensation,"
            " compensation_input, timeout_ms, retry, compensation_timeout_ms, compensation_retry, pivot, grant, if_fails, kind."
            " Did you mean 'timeout_ms'?"
        ),
        (
            "4:21: nodes[1].kind: node 'b': no kind is the text 'stpe'; there are step, choice, join, loop, each, child,"
            " approval, signal, timer, lock. Did you mean 'step'?"
        ),
        "5:5: nodes[2]: 'name' is missing",
        "5:5: nodes[2]: 'handler' is missing",
        "6:33: nodes[3].retry.attempts: node 'c': a whole number is wanted, and this is the text 'soon'",
        (
            "6:50: nodes[3].if_fails: node 'c': compensate, go_on, skip are allowed, and this is the text 'compensat'."
            " Did you mean 'compensate'?"
        ),
        "7:5: nodes[4]: a node (a mapping) is wanted, and this is the number 5",
        "8:33: nodes[5].need: node 'd': all, any and a number are allowed, and this is the text 'some'.",
        "9:22: nodes[6].pivot: node 'e': true or false is wanted, and this is the text 'yes'",
    ]


def test_a_mistake_inside_an_expression_has_its_column() -> None:
    """Line and column are those of the wrong name, also inside a template and a quoted text."""
    found = problems("""\
        name: a
        nodes:
          - {name: a, input: {x: [1, "=input.x == and"]}}
          - name: b
            input: =input.x == oops.y
    """)
    assert [line.split(": ")[0] for line in found] == ["3:43", "5:24"]


def test_several_definitions_and_none() -> None:
    """Documents and lists are read in order; none at all, one too many, and the same version twice are mistakes."""
    one = "{name: a, nodes: [{name: x}]}"
    assert [saga.name for saga in load_sagas(f"{one}\n---\n{one.replace('a,', 'b,')}")] == ["a", "b"]
    assert [saga.version for saga in load_sagas(f"- {one}\n- {one[:-1]}, version: 2}}")] == [1, 2]
    assert problems(f"- {one}\n- {one}")[0].endswith("'a' version 1 is defined already, in line 1")
    assert "there is no definition" in problems("")[0]
    with pytest.raises(DefinitionErrors, match="one definition is wanted, and there are 2: a, b"):
        load_saga(f"{one}\n---\n{one.replace('a,', 'b,')}")
    assert "no YAML" in problems("name: [")[0]


def test_nodes_and_bodies_are_bounded() -> None:
    """Too many nodes and too many bodies inside bodies are told, however large the data is."""
    many = {"name": "a", "nodes": [{"name": f"n{number}"} for number in range(NODES_MAX + 1)]}
    assert f"more than {NODES_MAX} nodes" in str(read_definition(many)[1][0])
    node: dict[str, Any] = {"name": "x"}
    for number in range(900):
        node = {"name": f"l{number}", "kind": "loop", "passes_max": 1, "until": "true", "body": [node]}
    assert f"nest deeper than {BODIES_DEPTH_MAX}" in str(read_definition({"name": "a", "nodes": [node]})[1][0])


def test_a_message_ends() -> None:
    """Of very many mistakes the first are shown."""
    data = {"name": "a", "nodes": [{"name": f"n{number}", "x": 1, "y": 2} for number in range(NODES_MAX)]}
    with pytest.raises(DefinitionErrors) as caught:
        from_data(data)
    assert len(str(caught.value).split("\n")) <= MISTAKES_MAX + 1


def test_what_was_built_with_wrong_types_is_told() -> None:
    """A definition built in Python is held to the same shapes as a file."""
    wrong: Any = "soon"
    found = check(Definition(name="a", nodes=(Step(name="x", handler="x", timeout_ms=wrong), wrong)))
    assert [str(mistake) for mistake in found] == [
        "nodes[0].timeout_ms: node 'x': a whole number is wanted, and this is the text 'soon'",
        "nodes[1]: a node (a mapping) is wanted, and this is the text 'soon'",
    ]


def test_the_readme_of_the_module_is_true() -> None:
    """The example at the top of `shapes` can run."""
    import streams.core.sagas.shapes as module

    example = dedent((module.__doc__ or "").split("::\n\n")[1].split("\n\nA node")[0])
    assert not documents_of(example)[1]
    assert load_saga(example).nodes[-1].after == ("ask",)
