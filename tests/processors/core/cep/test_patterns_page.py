"""docs/cep-patterns.md: every example on the page is read, compared and run."""

from __future__ import annotations

import inspect
import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from processors.core.cep import builder, limits
from processors.core.cep.engine import Matcher, compile_pattern
from processors.core.cep.expressions import from_data
from processors.core.cep.loading import DefinitionError, load_definition, load_definitions
from processors.core.cep.model import Definition, Pattern, Skip, Stage, Times
from processors.core.cep.outputs import Outputs
from processors.core.cep.text import from_text
from streams.core import documents

PAGE = (Path(__file__).parents[4] / "docs" / "cep-patterns.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def _after(kind: str, other: str) -> list[tuple[str, str]]:
    """Each YAML block with the block of the other kind that belongs to it."""
    found, yaml = [], ""
    for language, text in BLOCKS:
        if language == "yaml":
            yaml = text
        elif language == kind and re.match(other, text):
            found.append((yaml, text))
    return found


def _events(line: str) -> list[dict[str, Any]]:
    found, ts = [], 0
    for word in line.split()[1:]:
        name, _, at = word.partition("@")
        ts = int(at) * 1000 if at else ts + 1000
        kind, n = re.fullmatch(r"([a-z]+)(\d*)", name).groups()  # type: ignore[union-attr] # else the page is wrong
        found.append({"id": name, "key": "k", "ts": ts, "type": kind} | ({"n": int(n)} if n else {}))
    return found


def _spelled(stages: Mapping[str, list[Any]]) -> str:
    return " ".join(sorted(f"{name}={','.join(event['id'] for event in taken)}" for name, taken in stages.items()))


def _expected(text: str, what: str) -> Counter[str]:
    line = next((line for line in text.splitlines() if line.startswith(what)), what)
    matches = line.removeprefix(what).split("|")
    return Counter(" ".join(sorted(match.split())) for match in matches if match.strip())


@pytest.mark.parametrize(("yaml", "text"), _after("text", "events"))
def test_the_engine_finds_what_the_page_says(yaml: str, text: str) -> None:
    """Each drawn example is run: these matches and timed-out partial matches, no others."""
    matcher = Matcher(compile_pattern(load_definition(yaml).pattern))
    states: dict[Any, Any] = {}
    out = Outputs()
    for event in _events(text.splitlines()[0]):
        if event["type"] == "clock":
            matcher.advance(states, "k", event["ts"], out)
        else:
            matcher.run(states, [event], out)
    assert Counter(_spelled(match.stages) for match in out.matches) == _expected(text, "matches")
    assert Counter(_spelled(late.stages) for late in out.timed_out) == _expected(text, "timed out")


def test_python_and_yaml_are_the_same_definition() -> None:
    """Where the page shows both faces, they are one definition."""
    shown: dict[str, Definition] = {}
    compared = 0
    scope: dict[str, Any] = {"cep": builder}
    for language, text in BLOCKS:
        found: list[Definition] = []
        if language == "yaml" and "wrong" not in text and "endless" not in text:
            found = load_definitions(text)
        elif language == "python":
            exec(text, scope)  # the page's own code
            found = [scope["definition"]]
        for definition in found:
            compared += definition.name in shown
            assert shown.setdefault(definition.name, definition) == definition
    assert compared == sum(language == "python" for language, _ in BLOCKS) == 6


def test_text_and_data_are_the_same_condition() -> None:
    """Each row of the table of conditions is one condition, written twice."""
    rows = re.findall(r"^\| `([^`]+)` \| `(\{\"op.*?\})` \|$", PAGE, re.MULTILINE)
    assert len(rows) == 9
    for text, data in rows:
        assert from_text(text) == from_data(json.loads(data))


@pytest.mark.parametrize(("yaml", "text"), _after("text", r"\w+\.yaml:"))
def test_mistakes_are_told_as_the_page_says(yaml: str, text: str) -> None:
    """The messages on the page are those of the loader, to the letter."""
    with pytest.raises(DefinitionError) as caught:
        load_definition(yaml, text.partition(":")[0])
    assert str(caught.value) == text.strip()


@pytest.mark.parametrize("model", [Definition, Pattern, Stage, Times, Skip])
def test_the_page_names_every_key(model: type[Definition]) -> None:
    """No key of the model is missing from the page."""
    missing = [name for name in model.model_fields if f"`{name}`" not in PAGE and f"`times.{name}`" not in PAGE]
    assert not missing


def test_the_page_names_every_word_of_the_builder() -> None:
    """No method of the builder is missing from the page."""
    words = [name for name, _ in inspect.getmembers(builder.PatternBuilder, inspect.isfunction) if not name.startswith("_")]
    assert not [word for word in words if not re.search(rf"\b{word}\b", PAGE)]


def test_the_page_has_the_limits() -> None:
    """The numbers on the page are those of the constants."""
    section = PAGE.partition("## Limits")[2].partition("## Mistakes")[0]
    for limit in (
        limits.STAGES_MAX, limits.GROUPS_DEPTH_MAX, limits.BRANCHES_MAX, limits.ALL_OF_MAX, limits.TIMES_MAX,
        limits.NAME_CHARS_MAX, limits.NODES_MAX, limits.OPERATORS_DEPTH_MAX, limits.TEXT_CHARS_MAX, limits.STRING_CHARS_MAX,
        limits.CHOICES_MAX, limits.PARTIAL_MATCHES_MAX, documents.DOCUMENT_CHARS_MAX, documents.VALUES_MAX, documents.DEPTH_MAX,
    ):  # fmt: skip
        assert re.search(rf"\b({limit}|{limit:,})\b", section), limit
    assert limits.WITHIN_MS_MAX == 2**53 - 1
    assert str(limits.IDLE_AFTER_MS) in PAGE
