"""What everybody follows and reads of a partition: the feed of its changes, marks in it, and its rows in pages.

The feed has a change for each commit, promise, roll-back of a promise, and mark, in the order of the log.
"""

from __future__ import annotations

from typing import Any, Final

from processors.core.transactions.rows import Place, Row, Rows
from processors.core.transactions.sizes import utf8_bytes
from processors.core.transactions.validation import domain_problem
from processors.core.transactions.words import ROWS_READ_BYTES_MAX, Fields, Problem, TableLimits, Told
from schemas.naming import name_problem
from streams.core.at import At

__all__ = ["Reading", "Who", "names_problem"]

Who = tuple[str, str]
"""Domain and transaction."""
ROW_OVERHEAD: Final = 40
"""Bytes of a row or a version in a page beside its names and value, at most."""


class Reading:
    """A base of `Arbiter`.

    Args:
        limits: Of tables.
    """

    def __init__(self, limits: TableLimits) -> None:
        self.limits = limits
        self.rows = Rows(limits)
        self._promised: dict[Who, list[Any]] = {}
        self._feed: list[Fields] = []
        self._told = 0

    # ---- the feed

    def take_feed(self) -> tuple[int, list[Fields]]:
        """Return the changes since the last call, and the position of the change before them."""
        previous, feed = self._told, self._feed
        if feed:
            self._feed, self._told = [], feed[-1]["position"]
        return previous, feed

    def _change(self, kind: str, at: At, asked: Fields, writes: list[Fields]) -> None:
        position = self.rows.last = at.offset + 1
        self._feed.append(
            {
                "kind": kind,
                "position": position,
                "at_ms": at.now_ms,
                "domain": asked["domain"],
                "txn": asked["txn"],
                "owner": asked["owner"],
                "isolation": asked["isolation"],
                "writes": writes,
                "participants": asked.get("participants", ()),
            }
        )

    # ---- reading

    def mark(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Put a mark into the feed, and say where it lies."""
        if problem := names_problem(asked, "domain", "request_id"):
            return [self._refused_request(asked, *problem, route, at)]
        fields = {"domain": asked["domain"], "txn": asked["request_id"], "owner": "", "isolation": ""}
        self._change("mark", at, fields, [])
        promised = sorted(txn for domain, txn in self._promised if domain == asked["domain"])
        answer = {
            "domain": asked["domain"],
            "request_id": asked["request_id"],
            "position": at.offset + 1,
            "at_ms": at.now_ms,
            "prepared": promised,
        }
        return [Told("marked", answer, route)]

    def read(self, asked: Fields, route: str, at: At) -> list[Told]:
        """Read a page of rows, as they are or were."""
        if problem := names_problem(asked, "domain", "request_id"):
            return [self._refused_request(asked, *problem, route, at)]
        self.rows.bury(at.now_ms)
        at_position, at_ms = asked["at_position"], asked["at_ms"]
        answer: Fields = {
            "domain": asked["domain"],
            "request_id": asked["request_id"],
            "position": at.offset + 1,
            "rows": [],
            "more": False,
            "code": "",
            "reason": "",
        }
        if 0 <= at_position < self.rows.gone or 0 <= at_ms < self.rows.gone_ms:
            answer["code"] = "too_old"
            answer["reason"] = f"rows that were deleted up to {self.rows.gone} are forgotten: read a later state"
            return [Told("rows", answer, route)]
        size = 0
        for place, row in self.rows.page(
            asked["domain"], asked["table"], asked["prefix"], (asked["after_table"], asked["after_key"])
        ):
            versions, gone = _versions(row, at_position, at_ms, history=asked["history"])
            if gone:
                answer["more"] = bool(answer["rows"])  # the next page says so: who wants only what comes before has it
                if not answer["rows"]:
                    answer["code"] = "too_old"
                    answer["reason"] = f"table {place[0]}, key {place[1]}: versions up to {row[0]} are not kept any more"
                break
            if not versions:
                continue
            size += ROW_OVERHEAD + utf8_bytes(place[0]) + utf8_bytes(place[1])
            size += sum(ROW_OVERHEAD + utf8_bytes(one[1]) + utf8_bytes(one[2]) + utf8_bytes(one[3]) for one in versions)
            if answer["rows"] and (size > ROWS_READ_BYTES_MAX or len(answer["rows"]) >= self.limits.page_rows_max):
                answer["more"] = True
                break
            answer["rows"].append(_row_read(place, row, versions))
        return [Told("rows", answer, route)]

    def misplaced(self, asked: Fields, problem: str, route: str, at: At) -> Told:
        """Refuse a command that came to a partition which may not be its domain's."""
        return self._refused_request(asked, "misplaced", problem, route, at)

    def _refused_request(self, asked: Fields, code: str, reason: str, route: str, at: At) -> Told:
        most = self.limits.name_chars_max
        fields = {
            "domain": asked["domain"][:most],
            "txn": asked.get("txn", "")[:most],
            "owner": asked.get("owner", "")[:most],
            "request_id": asked.get("request_id", "")[:most],
            "position": at.offset + 1,
            "code": code,
            "reason": reason,
            "conflicts": [],
            "waits_for": [],
        }
        return Told("refused", fields, route)


def names_problem(asked: Fields, *names: str) -> Problem | None:
    """Return what is wrong with the names of a command, if anything is; the domain is looked at as one."""
    for name in names:
        if text := domain_problem(asked[name]) if name == "domain" else name_problem(asked[name], f"the {name}"):
            return "bad_name", text
    return None


def _versions(row: Row, at_position: int, at_ms: int, *, history: bool) -> tuple[list[list[Any]], bool]:
    """Return the versions that are asked for, and whether one is not kept any more."""
    versions = row[1]
    if history:
        return versions, False
    if at_position < 0 and at_ms < 0:
        last = versions[-1]
        return ([] if last[1] is None else [last]), False
    for one in reversed(versions):
        if (at_position < 0 or one[0] <= at_position) and (at_ms < 0 or one[4] <= at_ms):
            return ([] if one[1] is None else [one]), False
    return [], row[0] > 0


def _row_read(place: Place, row: Row, versions: list[list[Any]]) -> Fields:
    return {
        "table": place[0],
        "key": place[1],
        "trimmed": row[0],
        "versions": [{"version": one[0], "value": one[1], "txn": one[2], "owner": one[3], "at_ms": one[4]} for one in versions],
    }
