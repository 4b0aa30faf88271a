"""The arbiter in its cell: what it answers, promises and writes follows from its log, whoever reads it and however often."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.catalogue import CATALOGUE
from streams.turns.batch import Effects, Output
from tests.processors.coordinating.commands_log import Worker, answers_of, kept
from tests.processors.transacting.tables_log import SHELL, bundles, digest, log_of, said_by_record, worker
from tests.streams.turns.fakes import FakeRecord

SEEDS = st.integers(0, 1 << 30)
STEPS = st.lists(st.tuples(st.integers(0, 20), st.sampled_from(["keep", "commit", "refused", "takeover"])), max_size=12)
"""Batches: how many records, and what happens then. A worker that was taken over from goes on as a zombie."""


class Wanted:
    """What a worker says that takes record by record, commits each, and is never interrupted; and its rows.

    Args:
        log: The log.
    """

    def __init__(self, log: list[FakeRecord]) -> None:
        one = worker()
        self.answers: dict[int, list[Output]] = {}
        self.events: dict[int, list[Output]] = {}
        self.changes: list[dict[str, Any]] = []
        for record in log:
            effects = one.run([record])
            one.commit()
            self.answers |= said_by_record(answers_of(effects))
            self.events |= said_by_record(effects.outputs)
            self.changes += [change for bundle in bundles(effects) for change in bundle["changes"]]
        self.rows = kept(one.rows)

    def check(self, records: list[FakeRecord], effects: Effects) -> None:
        """Compare what a batch of these records says."""
        answers, events = said_by_record(answers_of(effects)), said_by_record(effects.outputs)
        offsets = {record.offset for record in records}
        assert set(answers) | set(events) <= offsets, "a batch says what its records brought"
        for offset in offsets:
            assert answers.get(offset, []) == self.answers.get(offset, [])
            assert events.get(offset, []) == self.events.get(offset, [])
        self._check_feed({offset + 1 for offset in offsets}, bundles(effects))

    def _check_feed(self, positions: set[int], told: list[dict[str, Any]]) -> None:
        mine = [number for number, change in enumerate(self.changes) if change["position"] in positions]
        assert [change for bundle in told for change in bundle["changes"]] == [self.changes[number] for number in mine]
        for bundle in told:
            before = [change["position"] for change in self.changes if change["position"] < bundle["changes"][0]["position"]]
            assert bundle["previous"] == (before[-1] if before else 0), "a reader of the feed knows that it has missed nothing"


@settings(max_examples=150, deadline=None)
@given(seed=SEEDS, length=st.integers(1, 90), steps=STEPS)
def test_what_is_said_does_not_depend_on_batches_crashes_and_zombies(
    seed: int, length: int, steps: list[tuple[int, str]]
) -> None:
    """However the log is cut and whoever is replaced: each run of a record says the same, and the rows are the same."""
    log = log_of(seed, length)
    wanted, chance, one, zombies = Wanted(log), random.Random(seed), worker(), list[Worker]()

    def run(who: Worker, records: list[FakeRecord]) -> None:
        wanted.check(records, who.run(records))

    for size, then in steps:
        run(one, [record for record in log if record.offset >= one.position][:size])
        if then == "commit":
            one.commit()
        elif then == "refused":
            one.refused()
        elif then == "takeover":
            zombies.append(one)
            shuffled = list(one.rows.items())
            chance.shuffle(shuffled)
            one = worker(dict(shuffled), one.committed)
    for who in (*zombies, one):
        run(who, [record for record in log if record.offset >= who.position])
    one.commit()
    assert kept(one.rows) == wanted.rows


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, length=st.integers(1, 90))
def test_an_arbiter_made_anew_for_every_record_says_the_same(seed: int, length: int) -> None:
    """Nothing is remembered beside the rows: it is another one for each record."""
    log = log_of(seed, length)
    wanted, one, chance = Wanted(log), worker(), random.Random(seed)
    for record in log:
        shuffled = list(one.rows.items())
        chance.shuffle(shuffled)
        one = worker(dict(shuffled), one.committed)
        wanted.check([record], one.run([record]))
        one.commit()
    assert kept(one.rows) == wanted.rows


def test_another_process_answers_byte_for_byte_the_same() -> None:
    """Neither the order of a set nor anything else of a process comes into an answer, an event or a row."""
    seeds, records = range(6), 120
    program = Path(__file__).with_name("tables_log.py")
    said = []
    for hash_seed in ("1", "2"):
        given_ = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(program.parents[3])}
        args = [sys.executable, str(program), str(records), *map(str, seeds)]
        said.append(subprocess.run(args, env=given_, capture_output=True, text=True, check=True, timeout=120).stdout.split())
    assert said == [[digest(log_of(seed, records)) for seed in seeds]] * 2


def test_the_logs_meet_every_answer() -> None:
    """Random as they are, the logs have every kind of answer and the codes that matter: else the proofs above say little."""
    met: set[str] = set()
    for seed in range(60):
        one = worker()
        for record in log_of(seed, 90):
            effects = one.run([record])
            one.commit()
            for output in (*answers_of(effects), *effects.outputs):
                fields = CATALOGUE.read(output[2])
                met.add(CATALOGUE.type_of(output[2]))
                met |= {fields[name] for name in ("code", "state", "how") if fields.get(name)}
                met |= {f"feed: {change['kind']}" for change in fields.get("changes", ())}
    events = {type(sample).event_type for sample in SHELL.samples}
    assert met >= events
    assert met >= {"feed: committed", "feed: prepared", "feed: rolled_back", "feed: mark"}
    assert met >= {"overwritten", "merged", "waits", "applied", "refused", "cannot_merge"}
    assert met >= {"waits_for_human", "active", "prepared", "committed", "rolled_back", "unknown"}
    assert met >= {"conflict", "locked", "fenced", "full", "too_old", "forgotten", "not_yours", "died", "expired"}
