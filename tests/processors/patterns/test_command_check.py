"""`antiphon cep check`: what it counts, what it prints, and the code it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from processors.patterns.check import Backend, check_case
from processors.patterns.commands import commands

SITUATIONS = Path(__file__).parents[2] / "data" / "cep-situations.jsonl"
"""Small situations, written by hand, each with what must be found and why."""


def _check(*arguments: str | Path) -> Result:
    return CliRunner().invoke(commands, ["check", *map(str, arguments)])


def _cases() -> list[dict[str, object]]:
    return [json.loads(line) for line in SITUATIONS.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("backend", ["auto", "general", "generated"])
def test_every_situation_is_found_as_written(backend: str) -> None:
    """The situations hold on every backend; the one deviation goes by its rule, and cases with observed ties are left out."""
    result = _check(SITUATIONS, "--json", "--backend", backend)
    found = json.loads(result.stdout)
    assert (result.exit_code, found["failed"], found["cases"]) == (0, 0, len(_cases()))
    assert list(found["deviations_by_rule"]) == ["deadline-timers"]
    assert found["passed"] + found["deviations"] + found["skipped"] == found["cases"]


def test_a_wrong_expectation_fails_and_is_told(tmp_path: Path) -> None:
    """A case that expects something else ends the command with 1, and its first differences are printed with its name."""
    cases = _cases()
    expect = cases[0]["expect"]
    assert isinstance(expect, dict)
    expect["at"] = [6]
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text("\n".join(map(json.dumps, cases)), encoding="utf-8")
    result = _check(wrong)
    assert result.exit_code == 1
    assert f"failed: {cases[0]['name']}" in result.stdout
    assert "matches: missing 1 × a: a2; b: b2 @6" in result.stdout
    assert "matches: not expected 1 × a: a2; b: b2 @5" in result.stdout
    document = json.loads(_check(SITUATIONS, wrong, "--json").stdout)
    assert (document["failed"], document["cases"]) == (1, 2 * len(cases))
    assert document["failures"][0]["file"] == str(wrong)


@pytest.mark.parametrize("content", ["", "\n\n", "no json\n", '{"a": 1}\n', "\xff"])
def test_a_file_that_holds_no_cases_is_wrong_usage(tmp_path: Path, content: str) -> None:
    """Nothing, something else than JSON, JSON of another shape and bytes that are no text end with 2 and one line."""
    path = tmp_path / "cases.jsonl"
    path.write_bytes(content.encode("latin-1"))
    result = _check(path)
    assert result.exit_code == 2
    assert result.stdout == ""


def test_a_file_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    """A missing file ends with 2."""
    assert _check(tmp_path / "missing.jsonl").exit_code == 2


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"events": [1]}, "events.0"),
        ({"events": [{"id": "e1"}]}, "events.0"),
        ({"events": [{"id": "e1", "ts": "1"}]}, "events.0.ts"),
        ({"events": [{"watermark": None}]}, "events.0"),
        ({"mode": "batch"}, "mode"),
        ({"final_watermark": "last"}, "final_watermark"),
        ({"expect": 3}, "expect"),
        ({"expect": {"matches": [{"a": 1}]}}, "expect.matches.0.a"),
        ({"expect": {"matches": [{"a": ["e1"]}], "at": [1, 2]}}, "expect"),
        ({"expect": {"timed_out": [{"a": ["e1"]}]}}, "expect.timed_out.0.match"),
    ],
)
def test_a_case_of_another_shape_is_wrong_usage_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, object], place: str
) -> None:
    """Its number, its name and the place in it are told in one line; it is neither passed nor failed."""
    path = tmp_path / "cases.jsonl"
    good = _cases()[0]
    path.write_text(json.dumps(good) + "\n" + json.dumps({**good, **change}) + "\n", encoding="utf-8")
    result = _check(path)
    told = result.stderr + capsys.readouterr().err
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"case 2 ({good['name']}): {place}" in told
    assert told.count("\n") == 1


def test_a_clock_that_flink_moves_once_a_time_is_a_deviation_by_rule(tmp_path: Path) -> None:
    """Two events of one time: ours ends a wait between them that was over, Flink does not (its own answer, found by fuzzing)."""
    case = {
        "name": "two events at 13",
        "mode": "operator",
        "pattern": {
            "stages": [
                {"name": "s1", "times": {"min": 2, "max": 4}},
                {"name": "s2", "contiguity": "any", "times": {"min": 2, "max": None, "within_ms": 4}},
            ]
        },
        "events": [{"id": name, "ts": ts} for name, ts in (("e8", 9), ("e7", 8), ("e11", 13), ("e10", 13))],
        "final_watermark": "max",
        "expect": {
            "matches": [{"s1": ["e7", "e8"], "s2": ["e11", "e10"]}],
            "at": [13],
            "timed_out": [
                {"match": {"s1": ["e7", "e8", "e11", "e10"]}, "ts": 17},
                {"match": {"s1": ["e7", "e8", "e11"], "s2": ["e10"]}, "ts": 17},
                {"match": {"s1": ["e7", "e8", "e11"]}, "ts": 17},
                {"match": {"s1": ["e7", "e8"], "s2": ["e10"]}, "ts": 17},
                {"match": {"s1": ["e7", "e8"]}, "ts": 13},
                {"match": {"s1": ["e8", "e11"], "s2": ["e10"]}, "ts": 17},
                {"match": {"s1": ["e8", "e11"]}, "ts": 17},
            ],
            "ties": "none",
        },
    }
    backends: tuple[Backend, ...] = ("general", "generated")
    for backend in backends:
        verdict = check_case(case, backend)
        assert (verdict.status, verdict.rule) == ("deviation", "clock-per-event")
