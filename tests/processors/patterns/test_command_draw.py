"""`antiphon cep draw`: which pattern it takes, where it writes, and the code it ends with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner, Result

from processors.core.cep.loading import load_definition
from processors.patterns import command_draw, store
from processors.patterns.commands import commands
from processors.patterns.store import StoredPattern

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "processors" / "patterns" / "library"
STUCK = LIBRARY / "stuck-agent.yaml"


def _draw(*arguments: str | Path, given: str | None = None) -> Result:
    return CliRunner().invoke(commands, ["draw", *map(str, arguments)], input=given)


@pytest.mark.parametrize("file", sorted(LIBRARY.glob("*.yaml")), ids=lambda file: file.stem)
@pytest.mark.parametrize("states", [[], ["--states"]], ids=["stages", "states"])
def test_every_ready_pattern_can_be_drawn(file: Path, states: list[str]) -> None:
    """Each of the library gives a picture with its name, on standard output, and nothing else there."""
    result = _draw(file, *states)
    assert (result.exit_code, result.stderr) == (0, "")
    root = ET.fromstring(result.stdout)
    assert root.findtext("{http://www.w3.org/2000/svg}title") == file.stem


@pytest.mark.parametrize(
    ("picture", "states"), [("cep-stuck-agent.svg", []), ("cep-stuck-agent-states.svg", ["--states"])], ids=["stages", "states"]
)
def test_the_pictures_of_the_documentation_are_current(picture: str, states: list[str]) -> None:
    """docs/images has what the command draws of the library's stuck-agent.yaml; docs/cep-tools.md says how."""
    assert (ROOT / "docs" / "images" / picture).read_text(encoding="utf-8") == _draw(STUCK, *states).stdout


def test_it_writes_a_file_and_reads_standard_input(tmp_path: Path) -> None:
    """With -o nothing goes to standard output; - is the definition from a pipe."""
    out = tmp_path / "out.svg"
    result = _draw("-", "-o", out, given=STUCK.read_text(encoding="utf-8"))
    assert (result.exit_code, result.stdout) == (0, "")
    assert out.read_text(encoding="utf-8") == _draw(STUCK).stdout
    assert _draw(STUCK, "-o", tmp_path / "no" / "out.svg").exit_code == 2


def test_one_of_several_definitions_is_chosen_by_name(tmp_path: Path) -> None:
    """A file of several needs #NAME, and says how."""
    both = tmp_path / "both.yaml"
    both.write_text("\n---\n".join((LIBRARY / f"{name}.yaml").read_text("utf-8") for name in ("thrash", "stuck-agent")), "utf-8")
    result = _draw(both)
    assert result.exit_code == 2
    assert "holds 2 patterns: choose one, as in" in " ".join(result.stderr.split())
    assert _draw(f"{both}#stuck-agent").stdout == _draw(STUCK).stdout
    assert _draw(f"{both}#other").exit_code == 4


def test_a_wrong_file_ends_with_its_mistakes(tmp_path: Path) -> None:
    """A file that is not there is 4, one that is no text, holds nothing or is wrong 2, with line and reason."""
    assert _draw(tmp_path / "none.yaml").exit_code == 4
    empty, wrong = tmp_path / "empty.yaml", tmp_path / "wrong.yaml"
    empty.write_text("[]", encoding="utf-8")
    wrong.write_text("name: x\npattern: {stages: [{name: a, whre: 1}]}\n", encoding="utf-8")
    assert _draw(empty).exit_code == 2
    assert _draw("-", given="[]").exit_code == 2
    result = _draw(wrong)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no key 'whre' here" in result.stderr
    wrong.write_bytes(b"name: \xff")
    assert "no UTF-8 text" in _draw(wrong).stderr


def test_a_pattern_without_topics_is_drawn() -> None:
    """A draft need not read anything yet."""
    assert _draw("-", given="name: draft\npattern: {stages: [{name: a}]}\n").exit_code == 0


def test_an_automaton_without_a_picture_says_why(tmp_path: Path) -> None:
    """One with too many states is refused, with the way that works; that way works."""
    file = tmp_path / "long.json"
    file.write_text('{"name": "long", "pattern": {"stages": [{"name": "a", "times": {"min": 500, "max": 500}}]}}', "utf-8")
    result = _draw(file, "--states")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "draw the stages (without --states)" in " ".join(result.stderr.split())
    assert _draw(file).exit_code == 0


class _Stored:
    """A topic with two versions of one pattern, and one that was never good."""

    def __init__(self, config: Mapping[str, Any], options: object) -> None:
        pass

    topic = "cep.patterns"

    def list(self) -> dict[str, StoredPattern]:
        older, newer = load_definition(STUCK.read_text("utf-8")), load_definition((LIBRARY / "thrash.yaml").read_text("utf-8"))
        found = StoredPattern("stuck-agent", 9, definition=newer, history=((4, older), (9, newer)))
        return {"stuck-agent": found, "broken": StoredPattern("broken", problem="no JSON")}


def test_a_name_is_a_pattern_on_the_log_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """NAME is the version that runs, NAME@VERSION another one that is still there; the picture names it."""
    monkeypatch.setattr(store, "PatternStore", _Stored)
    monkeypatch.setattr(command_draw, "cluster_config", dict)
    assert ">thrash@9<" in _draw("stuck-agent").stdout
    assert ">stuck-agent@4<" in _draw("stuck-agent@4").stdout
    for pattern, code, words in (
        ("stuck-agent@5", 4, "has no version 5 on its topic, there are: 4, 9"),
        ("other", 4, "no pattern is called 'other'"),
        ("broken", 2, "no definition that is taken (no JSON)"),
    ):
        result = _draw(pattern)
        assert (result.exit_code, result.stdout) == (code, "")
        assert words in " ".join(result.stderr.split())
