"""What the page on differences says of Flink is what Flink answered, and what the engine does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from processors.patterns.check import DEVIATIONS, check_case
from tests.processors.core.cep.streams import BACKENDS, Backend

CASES = [json.loads(line) for line in Path(__file__).with_name("flink_surprises.jsonl").read_text(encoding="utf-8").splitlines()]
PAGE = (Path(__file__).parents[4] / "docs" / "cep-differences.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_where_flink_surprises_the_engine_does_the_same(case: dict[str, Any], backend: Backend) -> None:
    """Each surprising answer of Flink is ours too, and stands on the page with its reason."""
    verdict = check_case(case, backend)
    assert verdict.status == "passed", verdict.differences
    assert f"| {case['name']} | {case['note']} |" in PAGE


def test_the_page_names_every_surprise_and_every_deviation() -> None:
    """No row without a case, and every rule by which we differ is explained."""
    rows = PAGE.partition("## Where Flink's answer surprises")[2].count("\n| ") - 2
    assert rows == len(CASES)
    assert all(f"| `{rule}` |" in PAGE for rule in DEVIATIONS)
