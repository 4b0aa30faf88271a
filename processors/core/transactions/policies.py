"""What becomes of a conflict over a row that a transaction writes, other than that the transaction aborts.

    policy              the row that changed meanwhile is
    last_writer_wins    written over
    merge               given the result of the table's merge function (base, theirs, mine): JSON values, None where deleted
    priority            written over where the transaction's priority is above that of the version there; else it aborts
    human               left as it is until a human decides: the whole commit waits, as an incident, and holds no locks

A decision is for what is there when it is given: merges are made then, and what else conflicts is written over.

The base is the version that the transaction saw, None where there was none; where it is not kept any more nothing is merged,
since what was done meanwhile could count twice. A conflict over a row that is only read, and an expectation that does not hold,
always abort.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from processors.core.transactions.rows import Rows
from processors.core.transactions.sizes import size_problem, utf8_bytes
from processors.core.transactions.words import Fields, Refusal, TableLimits

__all__ = ["Merge", "settle"]

Merge = Callable[[Any, Any, Any], Any]
"""Makes one value of (base, theirs, mine); has to say the same whenever it is asked."""

Settled = tuple[Fields, str, str, str]
"""A conflict, the policy, how it was settled, why."""


class CannotMerge(Exception):
    """A merge that is not possible."""


def settle(
    rows: Rows,
    asked: Fields,
    conflicts: list[tuple[Fields, bool]],
    merges: Mapping[str, Merge],
    limits: TableLimits,
    decided: str = "",
) -> tuple[list[Fields], list[Settled], Refusal | None, bool]:
    """Decide about the conflicts of a transaction.

    Args:
        rows: The rows.
        asked: The transaction.
        conflicts: What has changed, and whether a policy may settle it.
        merges: Merge functions by table.
        limits: How large a merge may be.
        decided: What a human has said who wants it carried out.

    Returns:
        Its writes as they are now to be made; for each conflict that was settled the conflict, policy, how and why; the refusal
        where one aborts; whether a human has to decide.
    """
    of = {(write["table"], write["key"]): write for write in asked["writes"]}
    settled: list[Settled] = []
    aborts: list[Fields] = []
    merged: set[tuple[str, str]] = set()
    human = False
    code = reason = ""
    for conflict, may in conflicts:
        place = conflict["table"], conflict["row"]
        write = of.get(place) if may else None
        policy = "" if write is None else write["policy"]
        theirs = rows.newest(place)
        text = f"version {conflict['version']} of {conflict['owner']}"
        if place in merged:
            continue  # it was read twice
        if policy == "merge" and write is not None:
            merged.add(place)
            try:
                of[place] = {**write, "value": _merged(rows, place, asked["snapshot"], write, merges, limits)}
            except CannotMerge as cannot:
                code, reason = "cannot_merge", str(cannot)
                aborts.append(conflict)
            else:
                settled.append((conflict, policy, "merged", f"with {text}"))
        elif decided:
            settled.append((conflict, "human", "applied", decided))
        elif policy == "last_writer_wins":
            settled.append((conflict, policy, "overwritten", f"{text} is written over"))
        elif policy == "priority" and theirs is not None and asked["priority"] > theirs[5]:
            why = f"priority {asked['priority']} is above {theirs[5]} of {conflict['owner']}"
            settled.append((conflict, policy, "overwritten", why))
        elif policy == "human":
            human = True
            settled.append((conflict, policy, "waits", f"a human decides: {text} is there"))
        else:
            if policy == "priority":
                reason = (
                    reason or f"priority {asked['priority']} is not above {theirs[5] if theirs else 0} of {conflict['owner']}"
                )
            aborts.append(conflict)
    writes = list(of.values())
    if code != "cannot_merge" and (problem := _merges_problem(asked, writes, settled, limits)):
        code, reason, aborts = "cannot_merge", problem, [one[0] for one in settled]
    if aborts:
        refusal = Refusal(code or "conflict", reason or _why(aborts), aborts[: limits.conflicts_max], [])
        return [], [], refusal, False
    return writes, settled, None, human


def _merges_problem(asked: Fields, writes: list[Fields], settled: list[Settled], limits: TableLimits) -> str:
    """Return what is wrong with a transaction after its merges: they may be larger than what they were made of."""
    if not any(how == "merged" for _, _, how, _ in settled):
        return ""
    problem = size_problem({**asked, "writes": writes}, limits, sum(len(write["value"] or "") for write in writes))
    return "" if problem is None else f"with what was merged {problem[1]}"


def _merged(
    rows: Rows, place: tuple[str, str], snapshot: int, write: Fields, merges: Mapping[str, Merge], limits: TableLimits
) -> str | None:
    merge = merges.get(place[0])
    if merge is None:
        raise CannotMerge(f"table {place[0]} has no merge function: give the worker one with AGENT_TABLES_MERGES")
    base, theirs = rows.at(place, snapshot), rows.newest(place)
    if base is None and rows.trimmed(place):
        raise CannotMerge(f"table {place[0]}, key {place[1]}: the version that was read, at {snapshot}, is not kept any more")
    texts = (base[1] if base else None, theirs[1] if theirs else None, write["value"])
    try:
        values = [None if text is None else json.loads(text) for text in texts]
    except (ValueError, RecursionError) as error:
        raise CannotMerge(f"a value of table {place[0]}, key {place[1]} is no JSON: {error}") from None
    try:
        merged = merge(*values)
        text = None if merged is None else json.dumps(merged, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        utf8_bytes(text)  # raises where it has half a character
    except Exception as error:  # noqa: BLE001 - a function of the user's
        said = str(error)[:200].encode("utf-8", "replace").decode()
        raise CannotMerge(f"the merge function of table {place[0]} raised {type(error).__name__}: {said}") from None
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
