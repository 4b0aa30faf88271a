"""Two-phase commit on a real broker: every step is a crash of somebody, and all participants commit or none does."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.catalogue import CATALOGUE
from schemas.tables import COMMANDS_TOPIC as TABLES_TOPIC
from schemas.tables import PrepareTransaction, Write
from schemas.transactions import COMMANDS_TOPIC, EVENTS_TOPIC, AbandonTransaction
from streams.broker import EmbeddedBroker
from streams.client import Mesh
from streams.tables import Heuristic, Part, TransactionConflict, TransactionRefused, VoteAgainst
from tests.e2e.trial import read_committed, until
from tests.e2e.txn_trial import TxnTrial

WITHIN_S = 120.0
"""For a transaction whose coordinator dies: a takeover on a loaded machine, and the pauses after which things are said again."""


class TwoPhaseTrial(TxnTrial):
    """As `TxnTrial`, with an arbiter and a coordinator that are processes of their own."""

    def start_fated(self, roles: str, fate: str) -> subprocess.Popen[bytes]:
        """Start a worker with its fate, and wait until it has partitions."""
        process, log = self._start(
            "twophase_app.py",
            TXN_SERVERS=self.servers,
            TXN_APP=self.name,
            TXN_INSTANCE=f"w{len(self.logs)}",
            TXN_STATE=str(self.directory / "state"),
            TXN_PREFIX=self.prefix,
            TXN_ROLE=roles,
            TXN_FATE=fate,
        )
        self.wait_started(log)
        return process

    def start_waiting(self, roles: str) -> subprocess.Popen[bytes]:
        """Start a worker, and wait until it has partitions."""
        process, log = self.start_role(roles)
        self.wait_started(log)
        return process

    def told(self, topic: str = EVENTS_TOPIC) -> list[tuple[str, dict[str, Any]]]:
        """Return what was told, in the order of each partition."""
        found = sorted(read_committed(self.servers, self.prefix + topic), key=lambda one: one[:2])
        return [(CATALOGUE.type_of(value), CATALOGUE.read(value)) for *_, value in found if value is not None]

    def said_by(self, *command: str, exit_code: int = 0) -> list[dict[str, Any]]:
        """Return what a command of the command line prints as JSON."""
        given = {
            "ANTIPHON_KAFKA__BOOTSTRAP_SERVERS": self.servers,
            "ANTIPHON_KAFKA__CLIENT_ID": f"{self.name}-cli",
            "ANTIPHON_CLIENT__COORDINATION_TOPIC_PREFIX": self.prefix,
        }
        program = [sys.executable, "-c", "from streams.cli import main; main()", *command, "--json"]
        ended = subprocess.run(program, env=os.environ | given, capture_output=True, text=True, timeout=WITHIN_S, check=False)
        assert ended.returncode == exit_code, ended.stderr
        return [json.loads(line) for line in ended.stdout.splitlines()]

    def told_of(self, txn: str, topic: str = EVENTS_TOPIC) -> list[tuple[str, dict[str, Any]]]:
        """Return what was told of one transaction."""
        return [(kind, fields) for kind, fields in self.told(topic) if fields.get("txn") == txn]


@pytest.fixture(scope="module")
def trial(kafka: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoPhaseTrial]:
    """Topics of its own; workers come and go with each test."""
    with TwoPhaseTrial(kafka.bootstrap_servers, tmp_path_factory.mktemp("twophase"), roles="transactions") as made:
        for one in ("transactions", "coordinator"):
            made.stop(made.start_waiting(one))
        yield made


@dataclass
class Payments:
    """A resource manager in this process."""

    done: dict[str, list[str]] = field(default_factory=dict)
    refuses: bool = False
    by_itself: bool = False
    promised: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, part: Part, what: str) -> None:
        self.done.setdefault(part.txn, []).append(what)

    async def prepare(self, part: Part) -> None:
        self.note(part, "promised")
        self.promised.set()
        if self.refuses:
            raise VoteAgainst("no money", code="broke")

    async def commit(self, part: Part) -> None:
        self.note(part, "committed")

    async def abort(self, part: Part) -> None:
        self.note(part, "aborted")
        if self.by_itself:
            raise Heuristic("paid out at night", committed=True)


@dataclass
class Bench:
    """What a test works with: a connection, a manager, rows of its own in two domains."""

    mesh: Mesh
    pay: Payments
    manager: str
    keys: tuple[str, str]
    txn: str = ""

    async def work(self, value: int, manager: str = "") -> bool:
        """Write both rows and enlist the manager, in one transaction; return whether it committed."""
        try:
            async with self.mesh.transaction(isolation="serializable") as txn:
                self.txn = txn.id
                for key in self.keys:
                    assert await txn.get("plans", key) != value
                    await txn.put("plans", key, value)
                txn.enlist(manager or self.manager, {"amount": value})
        except (TransactionConflict, TransactionRefused):
            return False
        return True

    async def rows(self) -> list[int | None]:
        """Return both rows as one moment shows them."""
        async with self.mesh.transaction(read_only=True, fresh=True) as txn:
            return [await txn.get("plans", key) for key in self.keys]

    async def is_all_or_nothing(self, value: int, *, committed: bool) -> None:
        """Wait until all participants have done the same as the client was told."""
        wanted = [value, value] if committed else None
        async with asyncio.timeout(WITHIN_S):
            while self.pay.done.get(self.txn, ["aborted"])[-1] == "promised":  # noqa: ASYNC110 - seen from outside
                await asyncio.sleep(0.05)
            while wanted is not None and await self.rows() != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert self.pay.done.get(self.txn, ["aborted"])[-1] == ("committed" if committed else "aborted")
        if not committed:
            assert value not in await self.rows()

    async def is_free(self) -> None:
        """Write both rows again: nobody has them locked."""

        async def body(txn: Any) -> None:
            for key in self.keys:
                await txn.put("plans", key, 99)

        async with asyncio.timeout(WITHIN_S):
            await self.mesh.transact(body, isolation="read_committed", attempts=1_000)
        assert await self.rows() == [99, 99]


@asynccontextmanager
async def bench(trial: TwoPhaseTrial) -> AsyncIterator[Bench]:
    """Return a bench; its arbiter runs, a coordinator does not."""
    pay, name = Payments(), f"pay-{secrets.token_hex(4)}"
    domains = secrets.token_hex(4), secrets.token_hex(4)
    async with (
        trial.mesh(f"bench-{name}") as mesh,
        mesh.resource_manager(name, prepare=pay.prepare, commit=pay.commit, abort=pay.abort),
    ):
        yield Bench(mesh, pay, name, (f"{domains[0]}/a", f"{domains[1]}/b"))


@pytest.fixture
def arbiter(trial: TwoPhaseTrial) -> Iterator[subprocess.Popen[bytes]]:
    """An arbiter for one test."""
    process = trial.start_waiting("transactions")
    yield process
    process.kill()
    process.wait()


@asynccontextmanager
async def running(start: Callable[[], subprocess.Popen[bytes]]) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Run a worker for the time of a block."""
    process = await asyncio.to_thread(start)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGCONT)
        process.kill()
        await asyncio.to_thread(process.wait)


def coordinator(trial: TwoPhaseTrial) -> Callable[[], subprocess.Popen[bytes]]:
    """Return what starts a coordinator that nothing happens to."""
    return lambda: trial.start_waiting("coordinator")


STEPS = [
    "transaction.begin:1:before",
    "transaction.begin:1:after",
    "transaction.voted:1:before",
    "transaction.voted:1:after",
    "transaction.voted:2:50",
    "transaction.voted:3:before",
    "transaction.voted:3:after",
    "transaction.voted:3:1",
    "transaction.voted:3:40",
    "transaction.done:1:before",
    "transaction.done:2:50",
    "transaction.done:3:before",
    "transaction.done:3:after",
]
"""Before it asks the manager and after; before a vote is counted, after; with the last one before the decision is told, while it
is, after; before all have done it."""


def everyday(steps: list[str], chosen: set[str]) -> list[Any]:
    """Leave the others to the soak: each takes a takeover or two."""
    return [step if step in chosen else pytest.param(step, marks=pytest.mark.soak) for step in steps]


@pytest.mark.parametrize(
    "step", everyday(STEPS, {"transaction.voted:3:before", "transaction.voted:3:after", "transaction.done:2:50"})
)
@pytest.mark.usefixtures("arbiter")
async def test_a_coordinator_that_is_killed_leaves_all_or_nothing(trial: TwoPhaseTrial, step: str) -> None:
    """At every step: another one decides the same from the same log, and tells it until it is done; rows are free then."""
    async with bench(trial) as one:
        async with running(lambda: trial.start_fated("coordinator", step)) as fated:
            working = asyncio.create_task(one.work(1))
            assert await asyncio.to_thread(fated.wait, WITHIN_S) == -signal.SIGKILL
        async with running(coordinator(trial)):
            async with asyncio.timeout(WITHIN_S):
                committed = await working
            await one.is_all_or_nothing(1, committed=committed)
            await one.is_free()
            await asyncio.to_thread(ends_once, trial, one.txn, committed=committed)


def ends_once(trial: TwoPhaseTrial, txn: str, *, committed: bool) -> None:
    """Wait until a transaction has ended; it was decided once, and ended once."""
    until(lambda: any(kind == "transaction.ended" for kind, _ in trial.told_of(txn)), f"{txn} has ended", WITHIN_S)
    told = trial.told_of(txn)
    assert [fields["commit"] for kind, fields in told if kind == "transaction.decided"] == [committed]
    assert [fields["commit"] for kind, fields in told if kind == "transaction.ended"] == [committed]
    assert not [fields for kind, fields in told if kind == "transaction.incident"]


ARBITER_STEPS = [
    "transaction.prepare:1:after",
    "transaction.prepare:2:40",
    "transaction.decide:1:before",
    "transaction.decide:2:after",
]


@pytest.mark.parametrize("step", everyday(ARBITER_STEPS, {"transaction.prepare:1:after"}))
async def test_an_arbiter_that_is_killed_keeps_its_promise(trial: TwoPhaseTrial, step: str) -> None:
    """Before and after its vote, and before and after it has carried the decision out."""
    async with bench(trial) as one, running(coordinator(trial)):
        async with running(lambda: trial.start_fated("transactions", step)) as fated:
            working = asyncio.create_task(one.work(1))
            assert await asyncio.to_thread(fated.wait, WITHIN_S) == -signal.SIGKILL
        async with running(lambda: trial.start_waiting("transactions")):
            async with asyncio.timeout(WITHIN_S):
                committed = await working
            await one.is_all_or_nothing(1, committed=committed)
            await one.is_free()
            await asyncio.to_thread(ends_once, trial, one.txn, committed=committed)


@pytest.mark.parametrize(
    "step", everyday(["transaction.voted:3:freeze", "transaction.done:2:freeze"], {"transaction.voted:3:freeze"})
)
@pytest.mark.usefixtures("arbiter")
async def test_a_coordinator_that_was_frozen_changes_nothing(trial: TwoPhaseTrial, step: str) -> None:
    """Another one has taken over when it thaws: what the zombie still tells is the same, and what it keeps is refused."""
    async with bench(trial) as one, running(lambda: trial.start_fated("coordinator", step)) as zombie:
        working = asyncio.create_task(one.work(1))
        await asyncio.to_thread(until, lambda: _is_stopped(zombie), "it is frozen", WITHIN_S)
        async with running(coordinator(trial)):
            zombie.send_signal(signal.SIGCONT)
            async with asyncio.timeout(WITHIN_S):
                committed = await working
            await one.is_all_or_nothing(1, committed=committed)
            await one.is_free()
            await asyncio.to_thread(ends_once, trial, one.txn, committed=committed)


def _is_stopped(process: subprocess.Popen[bytes]) -> bool:
    state = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "T"


def prepare_of(one: Bench, number: int, txn: str, timeout_ms: int) -> PrepareTransaction:
    """Return a prepare of one of the bench's rows, in a transaction of both."""
    key = one.keys[number]
    return PrepareTransaction(
        domain=key.partition("/")[0],
        txn=txn,
        owner="ann",
        isolation="read_committed",
        writes=[Write(table="plans", key=key, value="1")],
        participants=[key.partition("/")[0] for key in one.keys],
        timeout_ms=timeout_ms,
    )


@pytest.mark.usefixtures("arbiter")
async def test_a_client_that_dies_after_one_prepare_leaves_nothing_locked(trial: TwoPhaseTrial) -> None:
    """The other vote never comes: it aborts when its time is over, and says whose vote was missing."""
    async with bench(trial) as one, running(coordinator(trial)):
        await one.mesh.publish(prepare_of(one, 0, "half", 1_500), topic=trial.prefix + TABLES_TOPIC)
        await one.is_free()
        await asyncio.to_thread(until, lambda: bool(trial.told_of("half")), "it is decided", WITHIN_S)
        (_, fields), *_ = trial.told_of("half")
        assert (fields["commit"], fields["code"]) == (False, "timed_out")
        assert one.keys[1].partition("/")[0] in fields["reason"]


@pytest.mark.usefixtures("arbiter")
async def test_a_transaction_that_is_given_up_is_over_at_once(trial: TwoPhaseTrial) -> None:
    """Before its time is over: nobody waits for a vote that the client knows not to come."""
    async with bench(trial) as one, running(coordinator(trial)):
        await one.mesh.publish(prepare_of(one, 0, "given-up", 600_000), topic=trial.prefix + TABLES_TOPIC)
        given_up = AbandonTransaction(txn="given-up", owner="ann", reason="changed my mind")
        await one.mesh.publish(given_up, topic=trial.prefix + COMMANDS_TOPIC)
        await one.is_free()


@pytest.mark.usefixtures("arbiter")
async def test_a_participant_in_doubt_asks(trial: TwoPhaseTrial) -> None:
    """Its vote is lost: nobody knows of the transaction, so it has aborted, and the row is free."""
    async with bench(trial) as one:
        await one.mesh.publish(prepare_of(one, 0, "lost", 600_000), topic=trial.prefix + TABLES_TOPIC)
        topic = trial.prefix + COMMANDS_TOPIC
        place = await asyncio.to_thread(_place_of, trial, topic, "transaction.voted", "lost")
        admin = AdminClient({"bootstrap.servers": trial.servers})
        admin.delete_records([TopicPartition(topic, place[0], place[1] + 1)])[TopicPartition(topic, place[0])].result(30)
        async with running(coordinator(trial)):
            await one.is_free()
            assert any(kind == "transaction.in_doubt" for kind, _ in trial.told_of("lost", COMMANDS_TOPIC))


def _place_of(trial: TwoPhaseTrial, topic: str, wanted: str, txn: str) -> tuple[int, int]:
    """Wait for a record of a transaction, and return its partition and offset."""
    found: list[tuple[int, int]] = []

    def is_there() -> bool:
        for partition, offset, key, value in read_committed(trial.servers, topic):
            if key == txn.encode() and value is not None and CATALOGUE.type_of(value) == wanted:
                found.append((partition, offset))
        return bool(found)

    until(is_there, f"{wanted} of {txn}", WITHIN_S)
    return found[0]


@pytest.mark.usefixtures("arbiter")
async def test_a_manager_that_dies_after_its_vote_carries_the_decision_out(trial: TwoPhaseTrial, tmp_path: Path) -> None:
    """It is told again when it is back, until it has done it; the client knew before."""
    journal = tmp_path / "journal"
    settings = {"SYNC_SERVERS": trial.servers, "SYNC_PREFIX": trial.prefix}

    def start(*args: str) -> tuple[subprocess.Popen[bytes], Path]:
        name = f"{trial.name}-m{len(trial.logs)}"
        process, log = trial._start("manager_client.py", str(journal), *args, **settings, SYNC_CLIENT=name)
        until(lambda: "working" in log.read_text(errors="replace"), "the manager works", WITHIN_S)
        return process, log

    async with bench(trial) as one, running(coordinator(trial)):
        dies, _ = await asyncio.to_thread(start, "die")
        assert await one.work(1, manager="ledger")
        assert await asyncio.to_thread(dies.wait, WITHIN_S) == -signal.SIGKILL
        await one.is_free()
        again, log = await asyncio.to_thread(start)
        await asyncio.to_thread(until, lambda: f"committed {one.txn}" in journal.read_text(), "it is carried out", WITHIN_S)
        await asyncio.to_thread(ends_once, trial, one.txn, committed=True)
        again.kill()
        again.wait()
        assert f"promised {one.txn}\ncommitted {one.txn}\n" == journal.read_text(), log.read_text()


@pytest.mark.usefixtures("arbiter")
async def test_one_that_votes_against_it_aborts_all(trial: TwoPhaseTrial) -> None:
    """The client learns the manager's own code and reason; the rows are as they were, and free."""
    async with bench(trial) as one, running(coordinator(trial)):
        one.pay.refuses = True
        txn = await one.mesh.transaction().__aenter__()
        for key in one.keys:
            await txn.put("plans", key, 1)
        txn.enlist(one.manager, {})
        with pytest.raises(TransactionRefused, match="no money") as refused:
            await txn.__aexit__(None, None, None)
        assert refused.value.code == "broke"
        assert await one.rows() == [None, None]
        await one.is_free()


@pytest.mark.usefixtures("arbiter")
async def test_a_heuristic_outcome_is_an_incident_until_it_is_settled(trial: TwoPhaseTrial) -> None:
    """A manager has paid though the transaction aborts: an operator sees it, says what was done about it, and it ends."""
    async with bench(trial) as one, running(coordinator(trial)):
        one.pay.by_itself = True
        txn = await one.mesh.transaction().__aenter__()
        txn.enlist(one.manager, {})
        txn.enlist("nobody", {})
        with pytest.raises(TransactionConflict, match="no vote of manager:nobody"):
            await txn.__aexit__(None, None, None)
        await asyncio.to_thread(
            until, lambda: any(kind == "transaction.incident" for kind, _ in trial.told_of(txn.id)), "it is told", WITHIN_S
        )
        (incident,) = [found for found in trial.said_by("txn", "incidents") if found["txn"] == txn.id]
        place = txn.id, f"manager:{one.manager}"
        assert (incident["participant"], incident["code"]) == (place[1], "heuristic")
        assert incident["reason"].endswith("has committed, and abort was decided: paid out at night")
        (settled,) = trial.said_by("txn", "settle", *place, "--reason", "paid back")
        assert (settled["commit"], settled["decided"]) == (False, True)
        (incident,) = [found for found in trial.said_by("txn", "incidents", "--all") if found["txn"] == txn.id]
        assert (incident["code"], incident["reason"]) == ("resolved", "operator: paid back")
        assert trial.said_by("txn", "settle", *place, "--reason", "once more", exit_code=4) == []
        assert not [found for found in trial.said_by("txn", "incidents", exit_code=4) if found["txn"] == txn.id]
