"""Pictures of sagas."""

from __future__ import annotations

import re
from typing import get_args
from xml.etree import ElementTree as ET

from hypothesis import given, settings
from hypothesis import strategies as st

from streams.core.sagas.definition import Choice, Definition, Step, walk
from streams.core.sagas.graph import graphs_of
from streams.core.sagas.loading import load_saga
from streams.core.sagas.picture import NodeState, Status, draw_saga
from tests.streams.core.sagas.strategies import any_definition, good_definitions

SVG = "{http://www.w3.org/2000/svg}"
STATUSES: tuple[Status, ...] = get_args(Status)


def groups(svg: str, attribute: str) -> list[ET.Element]:
    return [group for group in ET.fromstring(svg).iter(f"{SVG}g") if f"data-{attribute}" in group.attrib]


def texts(element: ET.Element) -> str:
    return " ".join(text.text or "" for text in element.iter(f"{SVG}text"))


def box(group: ET.Element) -> tuple[float, float, float, float]:
    rect = group.find(f"{SVG}rect")
    assert rect is not None
    x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


@settings(max_examples=40, deadline=None)
@given(good_definitions())
def test_every_node_and_every_edge_is_drawn_once(definition: Definition) -> None:
    """Those of bodies too; boxes of one graph do not touch, and a body lies inside its node."""
    svg = draw_saga(definition)
    drawn = {group.attrib["data-node"]: box(group) for group in groups(svg, "node")}
    assert sorted(drawn) == sorted(node.name for node in walk(definition.nodes))
    edges = sorted(group.attrib["data-edge"] for group in groups(svg, "edge"))
    graphs = graphs_of(definition.nodes)
    assert edges == sorted(
        [f">{name}" for graph in graphs.values() for name in graph.starts]
        + [f"{name}>{target}" for graph in graphs.values() for name in graph.nodes for target in graph.targets[name]]
    )
    for home, graph in graphs.items():
        for name in graph.nodes:
            left, top, right, bottom = drawn[name]
            if home:
                outer = drawn[home]
                assert outer[0] < left < right < outer[2]
                assert outer[1] < top < bottom < outer[3]
            for other in graph.nodes:
                if other != name:
                    a, b, c, d = drawn[other]
                    assert right <= a or c <= left or bottom <= b or d <= top


@settings(max_examples=40, deadline=None)
@given(any_definition, st.sampled_from(STATUSES), st.text(max_size=9))
def test_any_definition_gives_a_picture(definition: Definition, status: Status, note: str) -> None:
    """Whatever can be held is drawn, whether it can run or not, and whatever its texts hold: well-formed, and the same again."""
    states = {node.name: NodeState(status, note) for node in walk(definition.nodes)}
    svg = draw_saga(definition, states)
    ET.fromstring(svg)
    assert svg == draw_saga(definition, states)


def test_states_are_told_in_colour_and_in_words() -> None:
    """Each state has a face of its own, its word and its note in the box, and a place in the legend with its number."""
    definition = Definition(
        name="s", nodes=tuple(Step(name=f"n{number}", handler="h", after=()) for number in range(len(STATUSES)))
    )
    states = {f"n{number}": NodeState(status, "3 of 5") for number, status in enumerate(STATUSES) if status}
    svg = draw_saga(definition, states)
    faces = set()
    for group in groups(svg, "node"):
        status = group.attrib["data-state"]
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        faces.add(rect.attrib["class"])
        assert not status or f"{status.replace('_', ' ')} · 3 of 5" in texts(group)
    assert len(faces) == len(STATUSES)
    legend = texts(ET.fromstring(svg))
    assert all(f"1 {status.replace('_', ' ') or 'not yet'}" in legend for status in STATUSES)


def test_the_picture_says_what_the_definition_says() -> None:
    """Handlers, compensations, the pivot, bounds and conditions can be read; long conditions when pointed at."""
    long = " and ".join(f"a.number_{number} == {number}" for number in range(9))
    saga = load_saga(f"""
        name: trip
        description: Books <a> & b.
        nodes:
          - {{name: a, handler: book, compensation: cancel}}
          - {{name: c, kind: choice, cases: [{{when: {long}, to: p}}], otherwise: e}}
          - {{name: p, pivot: true}}
          - {{name: e, kind: each, items: input.list, items_max: 7, body: [{{name: t, kind: timer, wait_ms: 90000}}]}}
    """)
    svg = draw_saga(saga)
    words = texts(ET.fromstring(svg))
    for part in (
        "trip@1",
        "Books <a> & b.",
        "book",
        "↶ cancel",
        "pivot: no way back",
        "each of input.list",
        "at most 7",
        "wait 1 min 30 s",
    ):
        assert part in words
    titles = {group.attrib["data-edge"]: group.findtext(f"{SVG}title") for group in groups(svg, "edge")}
    assert titles["c>p"] == long
    assert titles["c>e"] == "else"
    assert isinstance(saga.nodes[1], Choice)


def test_every_class_has_a_rule() -> None:
    """No shape is left without a style, and nothing is referred to by an id."""
    definition = Definition(name="s", nodes=tuple(Step(name=f"n{number}", handler="h") for number in range(len(STATUSES))))
    svg = draw_saga(definition, {f"n{number}": NodeState(status) for number, status in enumerate(STATUSES)})
    style = re.search(r"<style>(.*?)</style>", svg, re.DOTALL)
    assert style is not None
    used = {name for classes in re.findall(r'class="([^"]*)"', svg) for name in classes.split()} - {"antiphon-art"}
    assert {name for name in used if f".antiphon-art .{name}" not in style[1] and f".line.{name}" not in style[1]} == set()
    assert ' id="' not in svg
