"""The Hermitage anomalies (Kleppmann 2014; Adya 1999) at every isolation level: what one forbids, and what it allows."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.broker import EmbeddedBroker
from tests.e2e.txn_trial import TxnTrial
from tests.scripts.hermitage_scripts import LEVELS, MODES, SCRIPTS, read, run, table

DOCS = Path(__file__).parents[2] / "docs" / "isolation.md"


@pytest.fixture(scope="module")
def trial(kafka: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TxnTrial]:
    with TxnTrial(kafka.bootstrap_servers, tmp_path_factory.mktemp("hermitage"), roles="transactions") as made:
        asyncio.run(made.begin())
        yield made


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.txt")), ids=lambda path: path.stem)
async def test_levels_forbid_and_allow_what_their_names_say(trial: TxnTrial, path: Path) -> None:
    """One script at all levels, optimistic and pessimistic: the anomaly happens where the script says so and nowhere else."""
    script = read(path)
    async with trial.mesh("hermitage") as mesh:
        for mode in MODES:
            for level in LEVELS:
                found, said = await run(mesh, script, level, mode)
                assert found == script.expected[mode, level], f"{script.title}\n{mode} {level}\n" + "\n".join(said)


def test_the_table_of_the_docs_is_that_of_the_scripts() -> None:
    """docs/isolation.md has the table that the scripts make."""
    assert table() in DOCS.read_text(encoding="utf-8"), f"put this into docs/isolation.md:\n{table()}"
