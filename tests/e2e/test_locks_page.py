"""docs/coordination-locks.md: every example on the page is run, and its limits and codes are those of the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import fields
from itertools import pairwise
from pathlib import Path
from typing import Any

from processors.coordinating import locks as shell
from processors.core.coordination import lock_answers, lock_checks, lock_rules, locks
from processors.core.coordination.lock_words import LockLimits
from schemas.work import FileChanged
from streams import coordination
from streams.broker import EmbeddedBroker
from streams.coordination.errors import LockRefused
from tests.e2e.sync_trial import SyncTrial
from tests.e2e.trial import read_committed, until

PAGE = (Path(__file__).parents[2] / "docs" / "coordination-locks.md").read_text(encoding="utf-8")
EXAMPLES: list[tuple[str, str]] = re.findall(
    r"^```python\n((?!# \w+\.py\n).*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
)
PROGRAMS: dict[str, str] = dict(re.findall(r"^```python\n# (\w+)\.py\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))


@contextmanager
def running(name: str, servers: str, directory: Path) -> Iterator[None]:
    """Run a program of the page as a worker, and end it."""
    program, log = directory / f"{name}.py", directory / f"{name}.log"
    program.write_text(PROGRAMS[name], encoding="utf-8")
    given = {
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "ANTIPHON_KAFKA__BOOTSTRAP_SERVERS": servers,
        "ANTIPHON_WORKER__STATE_DIR": str(directory / name),
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, str(program), "worker", "-l", "info"], env=os.environ | given, stdout=output, stderr=output
        )
    try:

        def runs() -> bool:
            text = log.read_text(errors="replace")
            assert process.poll() is None, text[-2_000:]
            return "turns start on" in text

        until(runs, f"{name} runs")
        yield
    finally:
        process.terminate()
        process.wait(60)


async def test_every_example_prints_what_the_page_says(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """Each is run as it is shown, with a mesh, on a real broker with a worker; the guarded processor runs beside it."""
    assert len(EXAMPLES) + len(PROGRAMS) == PAGE.count("```python")
    servers = kafka.bootstrap_servers

    async def lines(topic: str, count: int) -> AsyncIterator[str]:
        found: list[str] = []

        def there() -> bool:
            found[:] = [(value or b"").decode() for *_, value in sorted(read_committed(servers, topic), key=lambda one: one[:2])]
            return len(found) >= count

        await asyncio.to_thread(until, there, f"{count} records of {topic}")
        for line in found:
            yield line

    with SyncTrial(servers, tmp_path) as trial, running("wiki", servers, tmp_path):
        await trial.begin()
        async with trial.mesh("page") as mesh:
            for text, wanted in EXAMPLES:
                printed: list[str] = []

                def say(*what: object, to: list[str] = printed) -> None:
                    to.append(" ".join(map(str, what)))

                scope: dict[str, Any] = {**vars(coordination), "asyncio": asyncio, "mesh": mesh, "print": say, "lines": lines}
                scope |= {"FileChanged": FileChanged, "re": re, "sqlite3": sqlite3}
                made = eval(compile(text, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), scope)
                if inspect.isawaitable(made):
                    async with asyncio.timeout(60):
                        await made
                assert "\n".join(printed) == wanted.strip(), text


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    """Every limit, with its number."""
    rows = re.findall(r"^\| `(\w+_(?:max|min|ms))` \| ([\d,]+) \|", PAGE, re.MULTILINE)
    limits = LockLimits()
    assert {name: int(value.replace(",", "")) for name, value in rows} == {
        one.name: getattr(limits, one.name) for one in fields(limits)
    }


def _codes(source: str) -> Iterator[str]:
    """Yield what stands as a code before a text: ("busy", f"..."), Refused(..., "misplaced", problem)."""
    for node in ast.walk(ast.parse(source)):
        given: list[ast.expr] = []
        if isinstance(node, ast.Tuple):
            given = node.elts
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("Refused", "self._refuse"):
            given = node.args
        for code, text in pairwise(given):
            if not isinstance(code, ast.Constant) or not re.fullmatch(r"[a-z]+(_[a-z]+)*", str(code.value)):
                continue
            sentence = isinstance(text, ast.Constant) and " " in str(text.value)
            named = isinstance(text, ast.Name) and text.id in ("text", "reason", "problem")
            if sentence or named or isinstance(text, ast.JoinedStr | ast.BinOp):
                yield str(code.value)


def test_the_codes_on_the_page_are_those_of_the_code() -> None:
    """Every code of a refusal, and whether trying again can help."""
    real = {
        code for module in (lock_answers, lock_checks, lock_rules, locks, shell) for code in _codes(inspect.getsource(module))
    }
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| .* \| (yes|) ?\|$", PAGE.partition("| code |")[2], re.MULTILINE)
    shown = {code: again == "yes" for names, again in rows for code in re.findall(r"\w+", names)}
    assert shown.keys() == real
    assert shown == {code: LockRefused("x", code=code, reason="").retryable for code in real}


def test_every_error_that_the_page_names_is_exported() -> None:
    """So a reader can catch it from `streams.coordination`, or from `streams.errors`."""
    named = set(re.findall(r"^\| `([A-Z]\w+)` \| ", PAGE.partition("## Answers")[2].partition("## Limits")[0], re.MULTILINE))
    assert named - {"RequestTimedOut"} <= set(coordination.__all__)
    assert len(named) == 5
