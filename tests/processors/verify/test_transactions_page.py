"""docs/verify-transactions.md: its example is what the command says, its table of anomalies is what the judge goes by."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from processors.core.verify.transactions.judging import FORBIDS, LEVELS
from processors.verify.commands import commands

PAGE = (Path(__file__).parents[3] / "docs" / "verify-transactions.md").read_text(encoding="utf-8")


def test_the_example_is_what_the_command_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history of the page, judged: the output of the page, exit code 1; a weaker level accepts it, and a picture is drawn."""
    history, said = re.findall(r"^```text\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    Path("history.jsonl").write_text(history, encoding="utf-8")
    found = CliRunner().invoke(commands, ["transactions", "history.jsonl", "--svg", "cycle.svg"])
    assert [line.rstrip() for line in found.stdout.splitlines()] == said.splitlines()
    assert found.exit_code == 1
    assert "b-1" in Path("cycle.svg").read_text(encoding="utf-8")
    weaker = CliRunner().invoke(commands, ["transactions", "history.jsonl", "--isolation", "read_committed", "--json"])
    assert weaker.exit_code == 0
    assert [one["name"] for one in json.loads(weaker.stdout)["anomalies"]] == ["lost update"]


def test_bad_files_are_refused(tmp_path: Path) -> None:
    """Exit code 2, with the line of each mistake."""
    path = tmp_path / "history.jsonl"
    path.write_text('{"txn": "a"}\nno json\n', encoding="utf-8")
    found = CliRunner().invoke(commands, ["transactions", str(path)])
    assert found.exit_code == 2
    assert "history.jsonl:2: no JSON" in found.stderr


def test_the_table_says_which_levels_allow_what() -> None:
    """Every anomaly that some level allows stands there with those levels."""
    rows = {one[0]: one[2] for one in (line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| G"))}
    for name, forbidden in FORBIDS.items():
        row = next(allowed for names, allowed in rows.items() if name in names.split(", "))
        assert row == ", ".join(level.replace("_", " ") for level in LEVELS if level not in forbidden)
