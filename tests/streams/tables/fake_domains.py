"""Domains in memory for tests of the client: commits by version, marks, pages of rows, and prepares that a test decides."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from schemas import tables, transactions
from schemas.events import Event
from streams.client import connect
from streams.codec import Codec
from streams.core.patterns import TopicPattern
from streams.requests import REPLY_PARTITION, REPLY_TO, REQUEST_ID
from streams.settings import Settings
from streams.testing import InMemoryLog
from streams.transport import FeedOptions, Outgoing, Record

Row = list[dict[str, Any]]


class FakeDomains:
    """All domains of one log; serializable checks, no limits.

    Attributes:
        page: Rows of a page.
        silent: How many commands are dropped unread.
        mute: How many commits are carried out without telling the feed.
        commands: Types of what came.
    """

    def __init__(self, *, partitions: int = 2) -> None:
        self.log = InMemoryLog()
        for topic in (tables.COMMANDS_TOPIC, tables.FEED_TOPIC):
            self.log.create_topic(topic, partitions=partitions)
        self.log.create_topic(transactions.COMMANDS_TOPIC, partitions=1)
        self.codec = Codec()
        self.rows: dict[tuple[str, str], Row] = {}
        self.ended: dict[str, dict[str, Any]] = {}
        self.prepared: dict[str, dict[str, dict[str, Any]]] = {}
        self.previous = dict.fromkeys(range(partitions), 0)
        self.page, self.silent, self.mute = 1_000, 0, 0
        self.commands: list[str] = []
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        feed = self.log.feed(FeedOptions(TopicPattern.parse(tables.COMMANDS_TOPIC), None, "earliest"))
        await feed.start()

        async def serve() -> None:
            while True:
                for lane, record in await feed.batch():
                    feed.take(lane, record.offset)
                    feed.ack(lane, record.offset)
                    self._take(record)

        self._task = asyncio.ensure_future(serve())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    def mesh(self, name: str = "test") -> connect:
        settings = Settings(kafka={"client_id": name}, client={"request_timeout_s": 5})
        return self.log.connect(settings=settings)

    # ---- what domains do

    def _take(self, record: Record) -> None:
        if not record.value:
            return  # the position of a decision
        kind, fields = self.codec.type_of(record), self.codec.read(record)
        self.commands.append(kind)
        if self.silent:
            self.silent -= 1
            return
        position, where = record.offset + 1, record.partition
        name = kind.replace(".", "_")
        getattr(self, f"_{name}")(record, fields, position, where)

    def _transaction_commit(self, record: Record, fields: dict[str, Any], position: int, where: int) -> None:
        txn = fields["txn"]
        if txn in self.ended:
            self.reply(record, tables.TransactionOutcome, **self.ended[txn])
            return
        problem = self._problem(fields, position)
        if problem is not None:
            self.reply(record, tables.TransactionRefused, **problem)
            return
        self.apply(fields, position, where, participants=[])

    def _transaction_prepare(self, record: Record, fields: dict[str, Any], position: int, where: int) -> None:
        if fields["domain"] + fields["txn"] in self.ended:
            said = {"txn": fields["txn"], "owner": fields["owner"], "participants": fields["participants"], "commit": True}
            self.reply(record, transactions.TransactionDecided, **said)
            return
        self.prepared.setdefault(fields["txn"], {})[fields["domain"]] = fields | {"where": where, "record": record}
        self.tell(where, self._change("prepared", position, fields, []))

    def _transaction_ask(self, record: Record, fields: dict[str, Any], position: int, where: int) -> None:
        del position
        unknown = {
            "domain": fields["domain"],
            "txn": fields["txn"],
            "owner": "",
            "state": "unknown",
            "partition": where,
            "position": -1,
        }
        self.reply(
            record,
            tables.TransactionOutcome,
            **self.ended.get(fields["domain"] + fields["txn"], self.ended.get(fields["txn"], unknown)),
        )

    def _table_mark(self, record: Record, fields: dict[str, Any], position: int, where: int) -> None:
        change = {"kind": "mark", "txn": fields["request_id"], "owner": "", "isolation": "", "writes": [], "participants": []}
        self.tell(where, change | {"position": position, "at_ms": record.timestamp, "domain": fields["domain"]})
        prepared = [txn for txn, parts in self.prepared.items() if fields["domain"] in parts]
        self.reply(
            record, tables.TableMarked, **fields, partition=where, position=position, at_ms=record.timestamp, prepared=prepared
        )

    def _table_read(self, record: Record, fields: dict[str, Any], position: int, where: int) -> None:
        after = (fields["after_table"], fields["after_key"])
        at = fields["at_position"] if fields["at_position"] >= 0 else position
        rows = []
        for (table, key), versions in sorted(self.rows.items()):
            wanted = table == fields["table"] and key.startswith(fields["prefix"]) if fields["table"] else True
            if (table, key) <= after or not wanted or key.partition("/")[0] != fields["domain"]:
                continue
            shown = versions if fields["history"] else [one for one in versions if one["version"] <= at][-1:]
            if shown and (fields["history"] or shown[-1]["value"] is not None):
                rows.append({"table": table, "key": key, "trimmed": 0, "versions": shown})
        page, rest = rows[: self.page], rows[self.page :]
        self.reply(
            record,
            tables.RowsRead,
            domain=fields["domain"],
            request_id=fields["request_id"],
            partition=where,
            position=position,
            rows=page,
            more=bool(rest),
        )

    # ---- what a test does

    def apply(self, fields: dict[str, Any], position: int, where: int, *, participants: list[str]) -> None:
        """Carry a commit out, and tell the feed."""
        for write in fields["writes"]:
            version = {
                "version": position,
                "value": write["value"],
                "txn": fields["txn"],
                "owner": fields["owner"],
                "at_ms": position,
            }
            self.rows.setdefault((write["table"], write["key"]), []).append(version)
        outcome = {"domain": fields["domain"], "txn": fields["txn"], "owner": fields["owner"], "state": "committed"}
        self.ended[fields["txn"]] = self.ended[fields["domain"] + fields["txn"]] = outcome | {
            "partition": where,
            "position": position,
        }
        self.tell(where, self._change("committed", position, fields, participants))

    def decide(self, txn: str, domain: str) -> None:
        """Have one domain commit a prepared transaction, at a position of its own."""
        fields = self.prepared[txn].pop(domain)
        participants = fields["participants"]
        record = self.log.append(Outgoing(tables.COMMANDS_TOPIC, b"-", b"", (), fields["where"]))
        self.apply(fields, record.offset + 1, fields["where"], participants=participants)

    async def promised(self, count: int = 2) -> str:
        """Wait until a transaction is prepared in so many domains, and return its id."""
        await until(lambda: any(len(parts) == count for parts in self.prepared.values()))
        return next(txn for txn, parts in self.prepared.items() if len(parts) == count)

    def abort(self, txn: str) -> None:
        """Have the coordinator answer that a domain has voted against a prepared transaction."""
        parts = self.prepared.pop(txn)
        fields = next(iter(parts.values()))
        other = {
            "table": "t",
            "key": "a/x",
            "span": False,
            "row": "a/x",
            "seen": 0,
            "version": 1,
            "txn": "o",
            "owner": "somebody",
        }
        said = {"txn": txn, "owner": fields["owner"], "participants": fields["participants"], "commit": False}
        why = {"code": "conflict", "reason": "it has changed", "conflicts": [other]}
        self.reply(fields["record"], transactions.TransactionDecided, **said, **why)

    def tell(self, where: int, change: dict[str, Any]) -> None:
        """Tell the feed one change, unless it is to be lost."""
        previous, self.previous[where] = self.previous[where], change["position"]
        if self.mute and change["kind"] == "committed":
            self.mute -= 1
            return
        event = tables.TablesChanged.from_fields(
            {"partition": where, "previous": previous, "changes": [change], "id": "1", "source": "/x"}
        )
        encoded = self.codec.encode(event, topic=tables.FEED_TOPIC)
        self.log.append(Outgoing(tables.FEED_TOPIC, encoded.key, encoded.value, tuple(encoded.headers), where))

    def reply(self, record: Record, cls: type[Event], **fields: Any) -> None:
        """Answer a command."""
        headers = dict(record.headers)
        event = cls.from_fields(fields | {"id": "1", "source": "/x"})
        encoded = self.codec.encode(event)
        call = (REQUEST_ID, headers[REQUEST_ID])
        topic, number = headers[REPLY_TO].decode(), int(headers[REPLY_PARTITION])
        self.log.append(Outgoing(topic, encoded.key, encoded.value, (*encoded.headers, call), number))

    def version(self, table: str, key: str) -> int:
        """Return a row's version; 0 where it is not there."""
        row = self.rows.get((table, key))
        return row[-1]["version"] if row and row[-1]["value"] is not None else 0

    def _problem(self, fields: dict[str, Any], position: int) -> dict[str, Any] | None:
        snapshot = fields["snapshot"]
        looked = [(one["table"], one["key"], False) for one in fields["reads"]]
        if fields["isolation"] == "snapshot":
            looked += [(one["table"], one["key"], False) for one in fields["writes"] if not one["policy"]]
        looked += [
            (one["table"], key, True)
            for one in fields["spans"]
            for table, key in self.rows
            if table == one["table"] and key.startswith(one["prefix"])
        ]
        conflicts = []
        for table, key, span in looked:
            row = self.rows.get((table, key), [])
            if row and row[-1]["version"] > snapshot:
                conflicts.append(self._conflict(table, key, snapshot, row[-1], span=span))
        code = "conflict"
        for one in fields["expects"]:
            if self.version(one["table"], one["key"]) != one["version"]:
                code = "expected"
                row = self.rows.get((one["table"], one["key"]), [{"version": 0, "txn": "", "owner": ""}])
                conflicts.append(self._conflict(one["table"], one["key"], one["version"], row[-1], span=False))
        if not conflicts:
            return None
        asked = {"domain": fields["domain"], "txn": fields["txn"], "owner": fields["owner"], "request_id": ""}
        return asked | {"position": position, "code": code, "reason": "it has changed", "conflicts": conflicts, "waits_for": []}

    def _conflict(self, table: str, key: str, seen: int, version: dict[str, Any], *, span: bool) -> dict[str, Any]:
        other = {"version": version["version"], "txn": version["txn"], "owner": version["owner"]}
        return {"table": table, "key": key, "span": span, "row": key, "seen": seen, **other}

    def _change(self, kind: str, position: int, fields: dict[str, Any], participants: list[str]) -> dict[str, Any]:
        writes = [{name: one[name] for name in ("table", "key", "value")} for one in fields["writes"]]
        who = {"domain": fields["domain"], "txn": fields["txn"], "owner": fields["owner"], "isolation": fields["isolation"]}
        return {"kind": kind, "position": position, "at_ms": position, **who, "writes": writes, "participants": participants}


async def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110 - what is waited for is of many kinds
            await asyncio.sleep(0.001)
