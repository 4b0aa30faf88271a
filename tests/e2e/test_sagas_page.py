"""docs/sagas.md: its examples are run, and its limits are those of the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from sagas.core.engine.words import SagaLimits
from streams import sagas
from streams.broker import EmbeddedBroker
from tests.e2e.saga_trial import SagaTrial

PAGE = (Path(__file__).parents[2] / "docs" / "sagas.md").read_text(encoding="utf-8")
EXAMPLES: list[tuple[str, str]] = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_every_example_prints_what_the_page_says(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """Each is run as it is shown, with a mesh, on a real broker with a worker."""
    assert len(EXAMPLES) == PAGE.count("```python")
    with SagaTrial(kafka.bootstrap_servers, tmp_path) as trial:
        await trial.begin()
        async with trial.mesh("page") as mesh:
            scope: dict[str, Any] = {**vars(sagas), "asyncio": asyncio, "mesh": mesh}
            for text, wanted in EXAMPLES:
                printed: list[str] = []

                def say(*what: object, to: list[str] = printed) -> None:
                    to.append(" ".join(map(str, what)))

                scope["print"] = say
                made = eval(compile(text, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), scope)
                if inspect.isawaitable(made):
                    async with asyncio.timeout(120):
                        await made
                assert "\n".join(printed) == wanted.strip(), text


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    """Every limit, with its number."""
    rows = re.findall(r"^\| `(\w+)` \| ([0-9,]+) \|", PAGE.partition("## Limits")[2], re.MULTILINE)
    limits = SagaLimits()
    assert {name: int(number.replace(",", "")) for name, number in rows} == {
        one.name: getattr(limits, one.name) for one in fields(limits)
    }
