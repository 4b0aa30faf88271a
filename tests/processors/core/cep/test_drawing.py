"""Pictures of patterns: what is on them, once, escaped, the same each time, and nothing over anything else."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from processors.core.cep.automaton import Automaton
from processors.core.cep.compiler import compile_pattern
from processors.core.cep.drawing import WIDTH_MAX, Caption, draw_stages
from processors.core.cep.drawing_states import STATES_DRAWN_MAX, DrawingError, draw_states
from processors.core.cep.model import Definition, Pattern, stages_in

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert('\"&]]>')</script>"

LOOP = {
    "stages": [
        {"name": "s", "where": "type == 's'"},
        {"name": "l", "contiguity": "relaxed", "where": "n > 1", "times": {"min": 2, "max": None}, "until": "n > 9"},
        {"name": "n", "negated": True, "contiguity": "relaxed", "where": "type == 'n'"},
        {"name": "e", "contiguity": "any", "where": "type == 'e'"},
    ],
    "within_ms": 60_000,
}
EVERYTHING: dict[str, Any] = {
    "stages": [
        {"name": "begin"},
        {"name": "fails", "contiguity": "relaxed", "times": {"min": 1, "max": 3, "within_ms": 1500}, "greedy": True},
        {"name": "nope", "negated": True, "where": "type == 'n'"},
        {
            "group": [
                {"name": "a", "where": "type == 'a'"},
                {"name": "maybe", "optional": True, "contiguity": "any"},
                {"name": "b", "contiguity": "relaxed", "within_ms": 5000, "within": "previous_and_current"},
            ],
            "contiguity": "relaxed",
            "times": {"min": 2, "max": 2},
        },
        {
            "any_of": [
                [{"name": "quick"}],
                [{"name": "x"}, {"all_of": [{"name": "deep"}, {"name": "deeper"}], "contiguity": "relaxed"}],
            ],
            "contiguity": "any",
        },
        {"name": "helped", "negated": True, "contiguity": "relaxed", "where": "type == 'h'"},
    ],
    "within_ms": 600_000,
    "skip": {"strategy": "to_last", "stage": "begin", "throw_on_miss": True},
}
PATTERNS = {"loop": LOOP, "everything": EVERYTHING}


def _pattern(data: dict[str, Any]) -> Pattern:
    return Pattern.model_validate(data)


def _named(svg: str, attribute: str) -> list[str]:
    return [value for element in ET.fromstring(svg).iter() if (value := element.get(attribute)) is not None]


def _texts(svg: str) -> str:
    return "\n".join(element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text"))


def _edges(automaton: Automaton) -> Counter[tuple[str, str, str]]:
    """Each edge that must be drawn: its look, source and target."""
    found: Counter[tuple[str, str, str]] = Counter()
    final = next(state for state in automaton.states if state.kind == "final")
    for state in automaton.states:
        if state.kind == "pending":
            found["time", state.name, final.name] += 1
        for edge in state.edges if state.kind != "stop" else []:
            look = "stop" if edge.target.kind == "stop" else edge.action
            found[look, state.name, edge.target.name] += 1
    return found


@pytest.mark.parametrize("data", PATTERNS.values(), ids=PATTERNS)
def test_every_stage_is_drawn_once(data: dict[str, Any]) -> None:
    """Stages in groups and choices, and negated ones, are there once each, and there is one end."""
    pattern = _pattern(data)
    svg = draw_stages(pattern)
    assert Counter(_named(svg, "data-stage")) == Counter(stage.name for stage in stages_in(pattern.stages) if stage.name)
    assert _named(svg, "data-end") == ["match"]
    assert len(_named(svg, "data-frame")) == sum(stage.name is None for stage in stages_in(pattern.stages))


@pytest.mark.parametrize("data", PATTERNS.values(), ids=PATTERNS)
def test_every_state_and_every_edge_is_drawn_once(data: dict[str, Any]) -> None:
    """States with their kinds, and edges between them with what they are, agree with the automaton; time has its own lines."""
    automaton = compile_pattern(_pattern(data))
    elements = [element.attrib for element in ET.fromstring(draw_states(automaton)).iter()]
    states = Counter((one["data-state"], one["data-kind"]) for one in elements if "data-state" in one)
    assert states == Counter((state.name, state.kind) for state in automaton.states)
    lines = Counter((one["data-edge"], one["data-source"], one["data-target"]) for one in elements if "data-edge" in one)
    assert lines == _edges(automaton)


def test_the_picture_says_in_words_what_the_pattern_says() -> None:
    """Quantifiers, contiguity, negations, windows, conditions and the skip strategy can be read."""
    told = _texts(draw_stages(_pattern(EVERYTHING)))
    for words in (
        "1 to 3 times, ≤ 1.5 s", "greedy", "not nope", "not as the very next event", "type == 'n'", "2 times", "optional",
        "any event", "≤ 5 s", "one of", "all of, in any order", "not before the window ends",
        "within 10 min, from the first event to the last",
        "to_last: drops what began before the match's last event of begin, and fails where there is none",
    ):  # fmt: skip
        assert words in told, words
    told = _texts(draw_stages(_pattern(LOOP)))
    for words in (
        "2 times or more",
        "until",
        "n > 9",
        "not before what follows",
        "relaxed",
        "any",
        "no_skip: nothing else changes",
    ):
        assert words in told, words


def test_an_arrow_is_labelled_with_the_contiguity_of_the_stage_that_it_leads_to() -> None:
    """The first stage and negations have an arrow without a word, for contiguity means nothing or something else there."""
    assert _named(draw_stages(_pattern(LOOP)), "data-link") == ["", "relaxed", "", "any", ""]


def test_an_absence_with_a_deadline_says_how_long() -> None:
    """The window between steps of a negation at the end is its deadline, whether it is on the stage or on the pattern."""
    stages: list[dict[str, Any]] = [{"name": "a"}, {"name": "b", "negated": True, "contiguity": "relaxed", "where": "n == 1"}]
    step = {"within_ms": 90_000, "within": "previous_and_current"}
    for data in ({"stages": [stages[0], {**stages[1], **step}]}, {"stages": stages, **step}):
        assert "not for 1 min 30 s after the event before" in _texts(draw_stages(_pattern(data)))


def test_a_long_condition_is_whole_where_it_is_pointed_at() -> None:
    """A box shows the beginning; its title, and the list beneath an automaton, the whole of it."""
    condition = " or ".join(f"field_number_{n} == 'a value that is long'" for n in range(12))
    pattern = _pattern({"stages": [{"name": "a", "where": condition}]})
    svg = draw_stages(pattern)
    assert "…" in _texts(svg)
    assert condition in "".join(element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}title"))
    states = _texts(draw_states(compile_pattern(pattern)))
    assert "take c1" in states
    assert condition[:60] in states


def test_hostile_names_and_texts_stay_text() -> None:
    """Markup in names, conditions, fields and descriptions is escaped, and characters that XML forbids are replaced."""
    name = HOSTILE.replace(":", "")
    definition = Definition(
        name="hostile",
        description=f"{HOSTILE} \x00\x1b\ufffe",
        key=HOSTILE,
        pattern=_pattern({
            "stages": [
                {"name": name, "where": {"op": "==", "args": [{"field": HOSTILE}, f"{HOSTILE}\x00\n"]}},
                {"name": f"{name}2", "times": {"min": 1, "max": None}, "until": {"op": "==", "args": [{"field": "x"}, HOSTILE]}},
            ],
        }),
    )  # fmt: skip
    for svg in (
        draw_stages(definition.pattern, Caption.of(definition, 7)),
        draw_states(compile_pattern(definition.pattern), Caption.of(definition, 7)),
    ):
        root = ET.fromstring(svg)
        assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
            "svg", "title", "desc", "style", "g", "rect", "circle", "text", "path", "polygon",
        }  # fmt: skip
        assert "<script" not in svg
        assert "hostile@7" in _texts(svg)
        assert "\x00" not in svg
    assert name in _named(draw_stages(definition.pattern), "data-stage")


@pytest.mark.parametrize("data", PATTERNS.values(), ids=PATTERNS)
def test_the_same_pattern_gives_the_same_picture(data: dict[str, Any]) -> None:
    """Drawing twice, from models read twice, gives the same text."""
    assert draw_stages(_pattern(data)) == draw_stages(_pattern(data))
    assert draw_states(compile_pattern(_pattern(data))) == draw_states(compile_pattern(_pattern(data)))


@pytest.mark.parametrize("data", PATTERNS.values(), ids=PATTERNS)
def test_it_is_drawn_in_light_and_in_dark_and_refers_to_nothing(data: dict[str, Any]) -> None:
    """Every class has a rule, colours have one for dark, and there are no ids, so that pictures fit on one page."""
    for svg in (draw_stages(_pattern(data)), draw_states(compile_pattern(_pattern(data)))):
        light, dark = re.findall(r"<style>(.*)@media \(prefers-color-scheme:dark\)(.*)</style>", svg)[0]
        used = {name for value in _named(svg, "class") for name in value.split()} - {"antiphon-art"}
        assert used <= set(re.findall(r"\.([a-z-]+)(?=[ {.,])", light)) | {"t"}
        assert {name for name in used if name.startswith(("on-", "rim-"))} <= set(re.findall(r"\.((?:on|rim)-\w+)", dark))
        assert not re.search(r"\b(id|href|url)\b ?[=(]", svg)


def test_an_automaton_that_is_too_large_is_refused_with_what_to_do() -> None:
    """Beyond the limit of states there is an error that names both numbers; at the limit there is a picture."""

    def loop(count: int) -> Automaton:
        return compile_pattern(_pattern({"stages": [{"name": "a", "times": {"min": count, "max": count}}]}))

    assert draw_states(loop(STATES_DRAWN_MAX - 1))
    with pytest.raises(DrawingError, match=rf"{STATES_DRAWN_MAX + 1} states .* draw the stages"):
        draw_states(loop(STATES_DRAWN_MAX))


def test_a_hundred_stages_take_rows_and_not_width() -> None:
    """The longest pattern that the model allows is as wide as a screen."""
    stages = [{"name": f"stage{n}", "contiguity": "relaxed"} for n in range(100)]
    root = ET.fromstring(draw_stages(_pattern({"stages": stages})))
    assert float(root.attrib["width"]) <= WIDTH_MAX + 100
    boxes = [(float(r.attrib["x"]), float(r.attrib["y"])) for r in root.iter(f"{SVG}rect") if "x" in r.attrib]
    assert len(boxes) == len(set(boxes)) == 101


@pytest.mark.parametrize("data", PATTERNS.values(), ids=PATTERNS)
def test_no_state_and_no_label_lies_over_another(data: dict[str, Any]) -> None:
    """Boxes of states are apart from each other and from the labels of edges."""
    root = ET.fromstring(draw_states(compile_pattern(_pattern(data))))
    areas: list[tuple[float, float, float, float]] = []
    for group in root.iter(f"{SVG}g"):
        if "data-state" in group.attrib:
            r = group.find(f"{SVG}rect")
            assert r is not None
            x, y, w, h = (float(r.attrib[key]) for key in ("x", "y", "width", "height"))
            areas.append((x, y, x + w, y + h))
        text = group.find(f"{SVG}text")
        if "data-edge" in group.attrib and text is not None and text.text:
            x, y, half = float(text.attrib["x"]), float(text.attrib["y"]), len(text.text) * 2.5
            areas.append((x - half, y - 8, x + half, y))
    for (a, b, c, d), (e, f, g, h) in itertools.combinations(areas, 2):
        assert c <= e or g <= a or d <= f or h <= b


def _rectangle(group: ET.Element) -> tuple[float, float, float, float]:
    rect = group.find(f"{SVG}rect")
    assert rect is not None
    x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


@pytest.mark.parametrize("data", PATTERNS.values(), ids=PATTERNS)
def test_stages_lie_apart_and_frames_around_what_they_hold(data: dict[str, Any]) -> None:
    """Boxes of stages do not touch, and a frame holds the stages inside it and no others."""
    root = ET.fromstring(draw_stages(_pattern(data)))
    stages = {group.attrib["data-stage"]: _rectangle(group) for group in root.iter(f"{SVG}g") if "data-stage" in group.attrib}
    for (a, b, c, d), (e, f, g, h) in itertools.combinations(stages.values(), 2):
        assert c < e or g < a or d < f or h < b
    for frame in (group for group in root.iter(f"{SVG}g") if "data-frame" in group.attrib):
        x, y, right, bottom = _rectangle(frame)
        inside = {group.attrib["data-stage"] for group in frame.iter(f"{SVG}g") if "data-stage" in group.attrib}
        assert inside == {name for name, (a, b, c, d) in stages.items() if x < a and c < right and y < b and d < bottom}


@pytest.mark.parametrize("data", PATTERNS.values(), ids=PATTERNS)
def test_the_head_of_an_edge_touches_its_target(data: dict[str, Any]) -> None:
    """The tip of every arrow lies on the border of the state that it leads to."""
    root = ET.fromstring(draw_states(compile_pattern(_pattern(data))))
    states = {group.attrib["data-state"]: _rectangle(group) for group in root.iter(f"{SVG}g") if "data-state" in group.attrib}
    edges = [group for group in root.iter(f"{SVG}g") if "data-edge" in group.attrib]
    assert edges
    for group in edges:
        head = group.find(f"{SVG}polygon")
        assert head is not None
        x, y = map(float, head.attrib["points"].split()[0].split(","))
        left, top, right, bottom = states[group.attrib["data-target"]]
        sideways, upright = min(abs(x - left), abs(x - right)), min(abs(y - top), abs(y - bottom))
        assert (sideways < 0.2 and top < y < bottom) or (upright < 0.2 and left < x < right)
