"""Tables and transactions on Kafka: commands to the arbiter; its answers, changes and votes to who reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from processors.core.transactions.arbiter import Arbiter
from schemas import tables as events
from schemas.transactions import COMMANDS_TOPIC as COORDINATOR_TOPIC
from schemas.transactions import AskDecision, ParticipantDone, ParticipantVoted
from streams.machines.shells import Shell, place_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from processors.core.transactions.lock_words import LockLimits
    from processors.core.transactions.policies import Merge
    from processors.core.transactions.words import Fields, TableLimits, Told
    from schemas.events import Event
    from streams.core.at import At
    from streams.machines.answers import Answers

__all__ = ["NAME", "shell"]

NAME: Final = "tables"
BUNDLE_BYTES_MAX: Final = 500_000
"""Of a record of the feed, about: half of what a broker takes."""
CHANGE_BYTES: Final = 150
WRITE_BYTES: Final = 40
"""What a change and a write take beside their names and values."""

_WHO: Final[dict[str, Any]] = {"id": "-", "source": "-", "domain": "", "owner": "", "txn": ""}
_CONFLICT: Final = events.Conflict(table="", key="", span=False, row="", seen=0, version=0, txn="", owner="")
_TOLD: Final[dict[str, Event]] = {
    "refused": events.TransactionRefused(**_WHO, position=0, code="", reason="", conflicts=[]),
    "resolved": events.ConflictResolved(**_WHO, position=0, policy="", how="", reason="", conflict=_CONFLICT),
    "outcome": events.TransactionOutcome(**_WHO, state="unknown", partition=0, position=0),
    "locked": events.RowsLocked(**_WHO, request_id="", position=0, partition=0, locks=[], lease_ms=0),
    "queued": events.RowsQueued(**_WHO, request_id="", behind=[]),
    "kept": events.TransactionKept(**_WHO, expires_ms=0),
    "rows": events.RowsRead(id="-", source="-", domain="", request_id="", partition=0, position=0, rows=[], more=False),
    "marked": events.TableMarked(id="-", source="-", domain="", request_id="", partition=0, position=0, at_ms=0),
}
_TO_COORDINATOR: Final[dict[str, Event]] = {
    "voted": ParticipantVoted(id="-", source="-", txn="", participant="", commit=False, owner="", participants=[], timeout_ms=0),
    "done": ParticipantDone(id="-", source="-", txn="", participant="", commit=False),
    "in_doubt": AskDecision(id="-", source="-", txn="", participant=""),
}
_CHANGED: Final = events.TablesChanged(id="-", source="-", partition=0, previous=0, changes=[])
_WITH_PARTITION: Final = frozenset({"outcome", "locked", "rows", "marked"})

_CARRY: Final[dict[str, Callable[[Arbiter, Fields, str, At], list[Told]]]] = {
    events.CommitTransaction.event_type: Arbiter.commit,
    events.PrepareTransaction.event_type: Arbiter.prepare,
    events.DecideTransaction.event_type: lambda arbiter, asked, _, at: arbiter.decide(asked, at),
    events.LockRows.event_type: Arbiter.lock,
    events.KeepTransaction.event_type: Arbiter.keep,
    events.EndTransaction.event_type: Arbiter.end,
    events.AskTransaction.event_type: Arbiter.ask,
    events.ResolveConflict.event_type: Arbiter.resolve,
    events.MarkTable.event_type: Arbiter.mark,
    events.ReadRows.event_type: Arbiter.read,
}


def shell(
    limits: TableLimits | None = None,
    lock_limits: LockLimits | None = None,
    merges: Mapping[str, Merge] | None = None,
    *,
    topic_prefix: str = "",
) -> Shell:
    """Return tables and transactions as a machine.

    Args:
        limits: Of tables.
        lock_limits: Of locks.
        merges: Merge functions by table.
        topic_prefix: Before the names of the feed and of the coordinator's topic.
    """
    feed, coordinator = topic_prefix + events.FEED_TOPIC, topic_prefix + COORDINATOR_TOPIC

    def tell(outcomes: Iterable[Told], answers: Answers, _: str) -> None:
        for kind, fields, route, everybody in outcomes:
            if kind in _TO_COORDINATOR:
                answers.send(type(_TO_COORDINATOR[kind]), fields, topic=coordinator, key=fields["txn"].encode())
                continue
            if kind in _WITH_PARTITION:
                fields["partition"] = answers.partition
            answers.write(type(_TOLD[kind]), fields, domain=fields["domain"], route=route, event=everybody)

    def finish(arbiter: Arbiter, answers: Answers) -> None:
        previous, changes = arbiter.take_feed()
        if not changes:
            return
        partition = answers.partition
        start = size = 0
        for number, change in enumerate(changes):
            size += _size(change)
            if size > BUNDLE_BYTES_MAX and number > start:
                _bundle(answers, feed, partition, previous, changes[start:number])
                previous, start, size = changes[number - 1]["position"], number, _size(change)
        _bundle(answers, feed, partition, previous, changes[start:])

    return Shell(
        name=NAME,
        commands=frozenset(_CARRY),
        samples=(*_TOLD.values(), *_TO_COORDINATOR.values(), _CHANGED),
        load=lambda rows: Arbiter.load(rows, limits, lock_limits, merges),
        carry_out=_carry_out,
        tell=tell,
        finish=finish,
    )


def _carry_out(arbiter: Arbiter, kind: str, fields: Fields, key: bytes | None, route: str, at: At) -> list[Told]:
    domain = fields["domain"]
    if key != domain.encode() and (problem := place_problem(key, domain)):
        return [arbiter.misplaced(fields, problem, route, at)]
    return _CARRY[kind](arbiter, fields, route, at)


def _bundle(answers: Answers, topic: str, partition: int, previous: int, changes: list[Fields]) -> None:
    fields = {"partition": partition, "previous": previous, "changes": changes}
    answers.send(events.TablesChanged, fields, topic=topic, key=b"%d" % partition, partition=partition, event=True)


def _size(change: Fields) -> int:
    """Return about how many bytes a change takes, and no fewer: a character has four at most."""
    chars = len(change["txn"]) + len(change["owner"]) + len(change["domain"]) + sum(map(len, change["participants"]))
    size = CHANGE_BYTES
    for write in change["writes"]:
        chars += len(write["table"]) + len(write["key"]) + len(write["value"] or "")
        size += WRITE_BYTES
    return size + 4 * chars
