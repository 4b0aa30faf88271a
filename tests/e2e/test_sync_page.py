"""docs/coordination-sync.md: every example on the page is run, and its limits are those of the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from processors.core.coordination.barrier_words import BarrierLimits
from processors.core.coordination.latch_words import LatchLimits
from processors.core.coordination.request_words import RequestLimits
from processors.core.coordination.semaphore_words import SemaphoreLimits
from streams import coordination
from streams.broker import EmbeddedBroker
from tests.e2e.sync_trial import SyncTrial

PAGE = (Path(__file__).parents[2] / "docs" / "coordination-sync.md").read_text(encoding="utf-8")
EXAMPLES: list[tuple[str, str]] = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_every_example_prints_what_the_page_says(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """Each is run as it is shown, with a mesh, on a real broker with a worker."""
    assert len(EXAMPLES) == PAGE.count("```python")
    with SyncTrial(kafka.bootstrap_servers, tmp_path) as trial:
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
                assert "\n".join(printed) == wanted.strip(), text


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    """Every limit of every primitive, with its number."""
    rows = re.findall(r"^\| `(\w+_(?:max|min|ms))` \|([^|]*)\|([^|]*)\|([^|]*)\|", PAGE, re.MULTILINE)
    kinds: tuple[RequestLimits, ...] = (SemaphoreLimits(), BarrierLimits(), LatchLimits())
    shown = {
        (type(limits), name): int(cell.replace(",", ""))
        for name, *cells in rows
        for limits, cell in zip(kinds, cells, strict=True)
        if cell.strip()
    }
    assert shown == {(type(limits), one.name): getattr(limits, one.name) for limits in kinds for one in fields(limits)}


def test_every_error_that_the_page_names_is_exported() -> None:
    """So a reader can catch it from `streams.coordination`, or from `streams.errors`."""
    named = set(re.findall(r"^\| `(\w+)` \| ", PAGE.partition("## Answers")[2].partition("## Limits")[0], re.MULTILINE))
    assert named - {"RequestTimedOut"} <= set(coordination.__all__)
    assert len(named) == 5
