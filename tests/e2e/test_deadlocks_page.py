"""docs/deadlocks.md: every example on the page is run, and its numbers are those of the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

from processors import deadlocks as detector
from processors.core.coordination.deadlocks import AGAIN_MS, GIVES_UP_MS, POLICIES, SHOWN_MAX
from streams import coordination
from streams.broker import EmbeddedBroker
from tests.e2e.deadlock_trial import DeadlockTrial

PAGE = (Path(__file__).parents[2] / "docs" / "deadlocks.md").read_text(encoding="utf-8")
EXAMPLES: list[tuple[str, str]] = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_every_example_prints_what_the_page_says(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """Each is run as it is shown, with a mesh, on a real broker with a worker."""
    assert len(EXAMPLES) == PAGE.count("```python")
    with DeadlockTrial(kafka.bootstrap_servers, tmp_path) as trial:
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


def test_the_numbers_on_the_page_are_those_of_the_code() -> None:
    """Settings, times and limits."""
    settings = PAGE.partition("## Settings and limits")[2]
    for text in (
        f"each {detector.LOOK_MS} ms",
        f"each {detector.CHECKPOINT_MS // 1000} s",
        f"after {AGAIN_MS // 1000} s without an answer",
        f"after {GIVES_UP_MS // 1000} s",
        f"| {SHOWN_MAX}; the record",
    ):
        assert text in settings
    policies = re.findall(r"^\| `(\w+)` \| ", PAGE.partition("## Who gives up")[2].partition("## Waits")[0], re.MULTILINE)
    assert tuple(policies) == POLICIES
    assert f"{detector.DeadlockOptions.model_config['env_prefix']}DEADLOCK_POLICY" in PAGE
