"""docs/verify.md: its example is judged as it says, and its table has the fields that are read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from processors.core.verify.history import FIELDS
from processors.verify.commands import commands

PAGE = (Path(__file__).parents[3] / "docs" / "verify.md").read_text(encoding="utf-8")
BLOCKS: list[str] = re.findall(r"^```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def test_the_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's history is refused in the page's words, and accepted with the change that it names."""
    history, told = BLOCKS
    monkeypatch.chdir(tmp_path)
    Path("history.jsonl").write_text(history)
    run = CliRunner().invoke(commands, ["locks", "history.jsonl"])
    assert run.exit_code == 1
    assert [line.rstrip() for line in run.output.splitlines()] == told.splitlines()
    Path("history.jsonl").write_text(history.replace('"call_ns": 20000000', '"call_ns": 5000000'))
    run = CliRunner().invoke(commands, ["locks", "history.jsonl"])
    assert run.exit_code == 0, run.output


def test_the_fields() -> None:
    """Each field that is read has a row, and no other."""
    rows = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(\w+)`", " ".join(rows))) == FIELDS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no operation in it"),
        ("{", "history.jsonl:1: no JSON"),
        ('{"op": "grab", "client": "a"}', "history.jsonl:1: op is 'grab'"),
    ],
)
def test_what_is_no_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str) -> None:
    """Exit code 2, and the place of the mistake."""
    monkeypatch.chdir(tmp_path)
    Path("history.jsonl").write_text(text + "\n")
    run = CliRunner().invoke(commands, ["locks", "history.jsonl"])
    assert run.exit_code == 2
    assert problem in run.output + run.stderr
