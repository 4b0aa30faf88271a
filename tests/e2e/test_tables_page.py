"""docs/tables.md: every example on the page is run, and what it says about errors is so."""

from __future__ import annotations

import ast
import asyncio
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from streams import tables
from streams.broker import EmbeddedBroker
from streams.client import connect
from tests.e2e.txn_trial import TxnTrial

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
EXAMPLES: list[tuple[str, str]] = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


async def test_every_example_prints_what_the_page_says(kafka: EmbeddedBroker, tmp_path: Path) -> None:
    """Each is run as it is shown, in the page's order, with what those before it have made."""
    assert len(EXAMPLES) == PAGE.count("```python")
    servers = kafka.bootstrap_servers
    with TxnTrial(servers, tmp_path, roles="transactions,coordinator") as trial:
        await trial.begin()
        elsewhere = {
            "kafka": {"bootstrap_servers": servers, "client_id": f"{trial.name}-other"},
            "client": {"coordination_topic_prefix": trial.prefix, "request_timeout_s": 60},
        }
        async with trial.mesh("page") as mesh:
            scope: dict[str, Any] = {**vars(tables), "asyncio": asyncio, "connect": connect, "elsewhere": elsewhere, "mesh": mesh}
            for text, wanted in EXAMPLES:
                printed: list[str] = []

                def say(*what: object, to: list[str] = printed) -> None:
                    to.append(" ".join(map(str, what)))

                scope["print"] = say
                made = eval(compile(text, "page", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), scope)
                if inspect.isawaitable(made):
                    async with asyncio.timeout(60):
                        await made
                assert "\n".join(printed) == wanted.strip(), text
            refused = await _refused(mesh)
        await asyncio.to_thread(_command_line, servers, trial.prefix, refused)


async def _refused(mesh: Any) -> str:
    """Leave a refused transaction behind, and return its id."""
    await mesh.table("plans").put("repo/cli", 1)
    with pytest.raises(tables.TransactionConflict) as refused:
        await mesh.table("plans").put("repo/cli", 2, if_version=0)
    return str(refused.value.txn)


def _command_line(servers: str, prefix: str, refused: str) -> None:
    """The commands show rows and what came of transactions."""
    settings = {"ANTIPHON_KAFKA__BOOTSTRAP_SERVERS": servers, "ANTIPHON_CLIENT__COORDINATION_TOPIC_PREFIX": prefix}

    def antiphon(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [sys.executable, "-c", "from streams.cli import main; main()", *arguments],
            env={**os.environ, **settings, "PYTHONPATH": str(ROOT), "ANTIPHON_CLIENT__REQUEST_TIMEOUT_S": "60"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    row = json.loads(antiphon("table", "get", "plans", "repo/main", "--json"))
    assert row["value"] == {"step": 4}
    assert len(antiphon("table", "scan", "tasks", "web/", "--json").splitlines()) == 2
    assert "(deleted)" in antiphon("table", "history", "budgets", "team/ann")
    antiphon("table", "get", "plans", "repo/nowhere", code=4)
    listed = [json.loads(line) for line in antiphon("txn", "ls", "--state", "refused", "--json").splitlines()]
    assert refused in {one["txn"] for one in listed}
    assert json.loads(antiphon("txn", "show", refused, "--json"))["code"] == "conflict"
    assert "It was refused (conflict)" in antiphon("txn", "explain", refused)
    several = [json.loads(line) for line in antiphon("txn", "ls", "--domain", "api", "--json").splitlines()]
    assert [(one["state"], one["participants"]) for one in several] == [("committed", ["api", "team"])]


def test_every_error_that_the_page_names_is_exported() -> None:
    """So a reader can catch it from `streams.tables`, or from `streams.coordination`."""
    named = set(re.findall(r"^\| `([A-Z]\w+)` \| ", PAGE.partition("## Errors")[2], re.MULTILINE))
    assert named - {"DeadlockError"} <= set(tables.__all__)
