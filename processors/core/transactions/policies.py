"""What becomes of a conflict over a row that a transaction writes, other than that the transaction aborts.

    policy              the row that changed meanwhile is
    last_writer_wins    written over
    merge               given the result of the table's merge function (base, theirs, mine): JSON values, None where deleted
    priority            written over where the transaction's priority is above that of the version there; else it aborts
    human               left as it is until a human decides: the whole commit waits, as an incident

The base is the version that the transaction saw; None where that is not kept any more. A conflict over a row that is only read,
and an expectation that does not hold, always abort.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from processors.core.transactions.rows import Rows
from processors.core.transactions.words import Fields, Refusal, TableLimits

__all__ = ["Merge", "settle"]

Merge = Callable[[Any, Any, Any], Any]
"""Makes one value of (base, theirs, mine); has to say the same whenever it is asked."""


class CannotMerge(Exception):
    """A merge that is not possible."""


def settle(
    rows: Rows, asked: Fields, conflicts: list[tuple[Fields, bool]], merges: Mapping[str, Merge], limits: TableLimits
) -> tuple[list[Fields], list[tuple[Fields, str, str, str]], Refusal | None, bool]:
    """Decide about the conflicts of a transaction.

    Returns:
        Its writes as they are now to be made; for each conflict that was settled the conflict, policy, how and why; the refusal
        where one aborts; whether a human has to decide.
    """
    of = {(write["table"], write["key"]): write for write in asked["writes"]}
    settled: list[tuple[Fields, str, str, str]] = []
    aborts: list[Fields] = []
    human = False
    reason = ""
    for conflict, may in conflicts:
        write = of.get((conflict["table"], conflict["row"])) if may else None
        policy = "" if write is None else write["policy"]
        place = conflict["table"], conflict["row"]
        theirs = rows.newest(place)
        assert write is not None or not policy
        if policy == "last_writer_wins":
            settled.append(
                (conflict, policy, "overwritten", f"version {conflict['version']} of {conflict['owner']} is written over")
            )
        elif policy == "priority" and theirs is not None and asked["priority"] > theirs[5]:
            why = f"priority {asked['priority']} is above {theirs[5]} of {conflict['owner']}"
            settled.append((conflict, policy, "overwritten", why))
        elif policy == "priority":
            reason = reason or f"priority {asked['priority']} is not above {theirs[5] if theirs else 0} of {conflict['owner']}"
            aborts.append(conflict)
        elif policy == "merge" and write is not None:
            try:
                of[place] = {**write, "value": _merged(rows, place, asked["snapshot"], write, merges, limits)}
            except CannotMerge as cannot:
                reason = reason or str(cannot)
                aborts.append(conflict)
            else:
                settled.append((conflict, policy, "merged", f"with version {conflict['version']} of {conflict['owner']}"))
        elif policy == "human":
            human = True
            settled.append(
                (conflict, policy, "waits", f"a human decides: version {conflict['version']} is of {conflict['owner']}")
            )
        else:
            aborts.append(conflict)
    if aborts:
        return [], [], Refusal("conflict", reason or _why(aborts), aborts[: limits.conflicts_max], []), False
    return list(of.values()), settled, None, human


def _merged(
    rows: Rows, place: tuple[str, str], snapshot: int, write: Fields, merges: Mapping[str, Merge], limits: TableLimits
) -> str | None:
    merge = merges.get(place[0])
    if merge is None:
        raise CannotMerge(f"table {place[0]} has no merge function: give the worker one with AGENT_TABLES_MERGES")
    base, theirs = rows.at(place, snapshot), rows.newest(place)
    texts = (base[1] if base else None, theirs[1] if theirs else None, write["value"])
    values = [None if text is None else json.loads(text) for text in texts]
    try:
        merged = merge(*values)
        text = None if merged is None else json.dumps(merged, separators=(",", ":"), ensure_ascii=False)
    except Exception as error:  # noqa: BLE001 - a function of the user's
        raise CannotMerge(f"the merge function of table {place[0]} raised {type(error).__name__}: {str(error)[:200]}") from None
    if text is not None and len(text) > limits.value_chars_max:
        raise CannotMerge(
            f"the merge of table {place[0]}, key {place[1]} has {len(text)} characters: {limits.value_chars_max} are allowed"
        )
    return text


def _why(conflicts: list[Fields]) -> str:
    one = conflicts[0]
    what = f"table {one['table']}, key {one['row']}"
    if one["version"]:
        text = f"{what} was changed by {one['owner']} ({one['txn']}) at {one['version']}, after {one['seen']} which was seen"
    else:
        text = f"{what} is not at version {one['seen']}, which was expected: it is not there"
    return text + (f", and {len(conflicts) - 1} more" if len(conflicts) > 1 else "")
