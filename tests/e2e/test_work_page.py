"""docs/coordination-work.md: every example on the page is run, and its limits are those of the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from processors.core.coordination.pool_words import PoolLimits
from processors.core.coordination.strategies import STRATEGIES
from streams import coordination
from streams.broker import EmbeddedBroker
from tests.e2e.work_trial import WorkTrial

PAGE = (Path(__file__).parents[2] / "docs" / "coordination-work.md").read_text(encoding="utf-8")
EXAMPLES: list[tuple[str, str]] = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_every_example_prints_what_the_page_says(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """Each is run as it is shown, with a mesh, on a real broker with a worker."""
    assert len(EXAMPLES) == PAGE.count("```python")
    with WorkTrial(kafka.bootstrap_servers, tmp_path) as trial:
        await trial.begin()
        async with trial.mesh("page") as mesh:
            for text, wanted in EXAMPLES:
                printed: list[str] = []

                def say(*what: object, to: list[str] = printed) -> None:
                    to.append(" ".join(map(str, what)))

                scope: dict[str, Any] = {**vars(coordination), "asyncio": asyncio, "mesh": mesh, "print": say}
                made = eval(compile(text, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), scope)
                if inspect.isawaitable(made):
                    async with asyncio.timeout(60):
                        await made
                assert [line.rstrip() for line in printed] == [line.rstrip() for line in wanted.splitlines()], text


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    """Every limit, with its number; and every strategy."""
    limits = PoolLimits()
    rows = re.findall(r"^\| `(\w+_(?:max|min|ms))` \| ([\d,]+) \|", PAGE, re.MULTILINE)
    assert {name: int(value.replace(",", "")) for name, value in rows} == {
        one.name: getattr(limits, one.name) for one in fields(limits)
    }
    strategies = PAGE.partition("| strategy |")[2].partition("your own")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", strategies, re.MULTILINE)) == set(STRATEGIES)


def test_every_error_that_the_page_names_is_exported() -> None:
    """So a reader can catch it from `streams.coordination`, or from `streams.errors`."""
    named = set(re.findall(r"^\| `(\w+)` \| ", PAGE.partition("## Answers")[2].partition("## Limits")[0], re.MULTILINE))
    assert named - {"RequestTimedOut"} <= set(coordination.__all__)
    assert len(named) == 6
