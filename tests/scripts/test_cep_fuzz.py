"""The fuzzer without Java: our general backend stands in for Flink, and a planted difference must be found and made small."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from processors.patterns.check import run_case
from tests.scripts import cep_fuzz
from tests.scripts.cep_cases import KINDS, case

Case = dict[str, Any]


def _stand_in(one: Case) -> Case:
    """The case with what the general backend makes of it, in the form of Flink's answer."""
    found = run_case(one, "general", flink_timers=one.get("mode") == "operator")
    expect: dict[str, Any] = {"matches": [], "at": [], "timed_out": [], "late": sorted(found.late.elements()), "ties": "none"}
    if found.error is not None:
        expect["error"] = found.error
    for spelled in found.matches.elements():
        match, at = _read(spelled)
        expect["matches"].append(match)
        expect["at"].append(at)
    expect["timed_out"] = [dict(zip(("match", "ts"), _read(spelled), strict=True)) for spelled in found.timed_out.elements()]
    return {**one, "expect": expect}


def _read(spelled: str) -> tuple[dict[str, list[str]], int]:
    stages, _, at = spelled.rpartition(" @")
    pairs = (stage.split(": ") for stage in stages.split("; "))
    return {name: ids.split(", ") for name, ids in pairs}, int(at)


def _planted(one: Case) -> Case:
    """A Flink that knows nothing of `optional`, where there is anything to find."""
    return (
        _stand_in(one) if '"optional"' not in json.dumps(one["pattern"]) else {**one, "expect": {"matches": [], "timed_out": []}}
    )


@pytest.mark.parametrize("mode", KINDS)
def test_fresh_cases_run_through_both_backends(mode: str, tmp_path: Path) -> None:
    """Sixty cases: the same from the same seed, most of them patterns that compile, some with matches, and no difference."""
    steps: list[None] = []
    cases = [case(7, number, mode) for number in range(60)]
    assert cases == [case(7, number, mode) for number in range(60)]
    counts = cep_fuzz.fuzz(iter(cases), _stand_in, tmp_path / "out", lambda: steps.append(None))
    assert len(steps) == sum(counts.values()) == 60
    assert counts["passed: with matches"] >= 15
    assert 1 <= counts["passed: pattern"] <= 15
    assert not (tmp_path / "out").exists()


def test_a_difference_is_written_down_as_small_as_it_gets(tmp_path: Path) -> None:
    """Of a pattern with several stages and events, one optional stage and one event are left, with the answer that differs."""
    cases = (case(3, number, "nfa") for number in range(40))
    different = [one for one in cases if cep_fuzz.differs(_planted(one))][:2]
    assert different
    counts = cep_fuzz.fuzz(iter(different), _planted, tmp_path, lambda: None)
    assert counts == Counter({"failed": len(different), "differences": len(different)})
    for one in different:
        small = json.loads((tmp_path / f"{one['name']}.jsonl").read_text(encoding="utf-8"))
        assert len(small["events"]) <= 2
        assert len(small["pattern"]["stages"]) <= 2
        assert cep_fuzz.differs(small)


def test_without_an_oracle_it_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without the oracle is an exit code of its own and one line."""
    assert cep_fuzz.main(["--oracle", str(tmp_path), "--cache", str(tmp_path / "cache"), "-n", "1"]) == 2
    assert "--oracle" in capsys.readouterr().out
