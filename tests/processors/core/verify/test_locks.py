"""Histories written by hand: what a lock may do, what it may not, and how that is told."""

from __future__ import annotations

import json
from typing import Any

import pytest

from processors.core.verify import Guard, Operation, ResourceVerdict, Verdict, judge, read_history, words

MS = 1_000_000
Line = dict[str, Any]


def acquire(owner: str, call: int, back: int | None, token: int = 0, **fields: Any) -> Line:
    """An acquire of `owner`'s grant g-owner, exclusive, with a lease of 100 ms, answered with a token or not at all."""
    line = {"client": owner, "op": "acquire", "resource": "repo/main", "grant": f"g-{owner}", "lease_ms": 100}
    answer = {} if back is None else {"return_ns": back * MS, "outcome": "ok", "token": token}
    return {**line, "call_ns": call * MS, **answer, **fields}


def about(op: str, owner: str, call: int, back: int | None, outcome: str = "ok", **fields: Any) -> Line:
    """Something that `owner` asks about its grant."""
    line = {"client": owner, "op": op, "resource": "repo/main", "grant": f"g-{owner}", "call_ns": call * MS}
    answer = {} if back is None else {"return_ns": back * MS, "outcome": outcome}
    return {**line, **answer, **({"lease_ms": 100} if op == "renew" else {}), **fields}


def write(owner: str, token: int, call: int, back: int | None, outcome: str = "ok", **fields: Any) -> Line:
    """A guarded write."""
    answer = {} if back is None else {"return_ns": back * MS, "outcome": outcome}
    return {"client": owner, "op": "write", "resource": "repo/main", "token": token, "call_ns": call * MS, **answer, **fields}


def refused(owner: str, call: int, back: int, reason: str = "held", **fields: Any) -> Line:
    """A refused try."""
    line = acquire(owner, call, None)
    return {**line, "return_ns": back * MS, "outcome": "refused", "reason": reason, **fields}


def read(*lines: Line) -> tuple[Operation, ...]:
    """The operations of some lines."""
    return read_history([("history", [json.dumps(line).encode() for line in lines])])


A, B = acquire("a", 0, 5, 10), acquire("b", 3, 60, 20)
SHARED: Line = {"mode": "shared"}

GOOD = {
    "one after the other": [A, about("release", "a", 50, 55), B],
    "released and granted before the release was answered": [A, about("release", "a", 50, 70), B],
    "the lease was over": [A, acquire("b", 3, 101, 20)],
    "the last renewal was not answered": [A, about("renew", "a", 50, None), acquire("b", 3, 101, 20)],
    "the lease after a renewal was over": [A, about("renew", "a", 50, 55), acquire("b", 3, 151, 20)],
    "a release without an answer took effect": [A, about("release", "a", 50, None), B],
    "a release without an answer did not": [A, about("release", "a", 50, None), about("renew", "a", 60, 65)],
    "a killed client may have had it": [acquire("k", 0, None), refused("a", 20, 25)],
    "a killed client need not have had it": [acquire("k", 0, None), A, about("release", "a", 6, 7)],
    "readers together": [acquire("a", 0, 5, 10, **SHARED), acquire("b", 0, 5, 20, **SHARED)],
    "tokens in the order of grants, not of calls": [
        acquire("a", 0, 50, 20, **SHARED),
        acquire("b", 1, 50, 10, **SHARED),
    ],
    "the owner once more, with its token": [A, acquire("a", 10, 15, 10, grant="g2")],
    "the owner once more, with a new token": [A, acquire("a", 10, 15, 11, grant="g2")],
    "nested in a grant without an answer": [
        acquire("a", 0, None, grant="g1", **SHARED),
        acquire("b", 0, 5, 20, **SHARED),
        acquire("a", 10, 15, 10, grant="g2", **SHARED),
    ],
    "released twice": [A, about("release", "a", 10, 15), about("release", "a", 20, 25)],
    "released once more after one without an answer": [A, about("release", "a", 10, None), about("release", "a", 20, 25)],
    "somebody else's release is refused": [A, about("release", "b", 10, 15, "refused", grant="g-a"), about("renew", "a", 20, 25)],
    "a zombie is told": [
        A,
        acquire("b", 3, 110, 20),
        about("renew", "a", 120, 125, "refused"),
        about("release", "a", 130, 135, "refused"),
        about("expire", "a", 5, 140),
        write("b", 20, 120, 125),
        write("a", 10, 130, 135, "refused"),
    ],
    "writes of a holder": [
        A,
        write("a", 10, 10, 11),
        write("a", 10, 12, 13),
        about("release", "a", 20, 25),
        B,
        write("b", 20, 61, 62),
    ],
    "a late write before the next holder's, where the store has not seen it": [
        A,
        about("release", "a", 20, 25),
        B,
        write("a", 10, 61, 62),
        write("b", 20, 63, 64),
    ],
    "stores see tokens apart": [
        A,
        about("release", "a", 20, 25),
        B,
        write("b", 20, 61, 62),
        write("a", 10, 63, 64, store="index"),
    ],
    "a refusal for another reason": [refused("a", 0, 5, "queue_full")],
    "a try that timed out": [{**refused("a", 0, 5), "outcome": "timed_out"}],
    "no lease, and released": [acquire("a", 0, 5, 10, lease_ms=None), about("release", "a", 20, 25), B],
    "locks are judged apart": [A, acquire("b", 3, 60, 5, resource="repo/docs")],
    "three in a queue": [
        A,
        acquire("b", 1, 60, 20),
        acquire("c", 2, 90, 30),
        about("release", "a", 50, 55),
        about("release", "b", 80, 85),
    ],
}

BAD = {
    "two holders": ([A, B], "b was granted the lock exclusively with token 20 while a held it exclusively with token 10"),
    "a reader beside a writer": ([A, {**B, **SHARED}], "b was granted the lock shared with token 20 while a held it exclusively"),
    "a writer beside a reader": ([{**A, **SHARED}, B], "while a held it shared with token 10"),
    "a lease cut short": ([A, acquire("b", 3, 97, 20)], "cannot have been over before +98.000 ms"),
    "a renewal forgotten": (
        [A, about("renew", "a", 50, 55), acquire("b", 3, 120, 20)],
        "cannot have been over before +148.000 ms",
    ),
    "a lease that does not end": ([acquire("a", 0, 5, 10, lease_ms=None), acquire("b", 3, 10**6, 20)], "on a lease without end"),
    "a grant that waited has its lease from then on": (
        [A, about("release", "a", 90, 95), acquire("b", 3, 100, 20), acquire("c", 3, 150, 30)],
        "while b held it exclusively with token 20, not released, on a lease that cannot have been over before +188.000 ms",
    ),
    "the same token again": ([A, about("release", "a", 20, 25), {**B, "token": 10}], "token 10, which is not larger than 10"),
    "a smaller token": (
        [A, about("release", "a", 20, 25), {**B, "token": 9}],
        "token 9, which is not larger than 10, granted to a",
    ),
    "a zombie's write": (
        [A, acquire("b", 3, 110, 20), write("b", 20, 120, 125), write("a", 10, 130, 135)],
        "the write with token 10 was accepted after token 20, granted to b",
    ),
    "somebody else's release accepted": (
        [A, about("release", "b", 10, 15, grant="g-a")],
        "b's release of grant g-a was accepted",
    ),
    "somebody else's release, refused, freed the lock": (
        [A, about("release", "b", 10, 15, "refused", grant="g-a"), B],
        "while a held it",
    ),
    "a late release freed the next holder's lock": (
        [
            A,
            acquire("b", 3, 110, 20),
            about("release", "a", 120, 125, "refused"),
            acquire("c", 115, 130, 30),
        ],
        "c was granted the lock exclusively with token 30 while b held it",
    ),
    "renewed after its release": ([A, about("release", "a", 10, 15), about("renew", "a", 20, 25)], "the grant was not held then"),
    "renewed after the next grant": ([A, acquire("b", 3, 110, 20), about("renew", "a", 120, 125)], "b held it with token 20"),
    "released after the next grant": (
        [A, acquire("b", 3, 110, 20), about("release", "a", 120, 125)],
        "the grant was not held then",
    ),
    "a grant never made": ([about("renew", "x", 0, 5)], "x's renewal of grant g-x was accepted, and the grant was not held"),
    "told of a loss that was none": (
        [A, about("expire", "a", 6, 50)],
        "a was told the end of the lease of grant g-a while a held it",
    ),
    "refused though it holds": ([A, about("renew", "a", 20, 25, "refused")], "a was refused the renewal of grant g-a while"),
    "refused as held though free": ([refused("a", 0, 5)], "a was refused because the lock was held, and nobody held it"),
    "refused as held after the release": ([A, about("release", "a", 10, 15), refused("b", 20, 25)], "nobody held it"),
    "the holder's write refused": ([A, write("a", 10, 10, 15, "refused")], "the write with token 10 was refused"),
    "granted before it was free": (
        [A, about("release", "a", 50, 60), acquire("b", 3, 40, 20)],
        "b was granted the lock exclusively",
    ),
}


@pytest.mark.parametrize("lines", GOOD.values(), ids=GOOD)
def test_what_a_lock_may_do(lines: list[Line]) -> None:
    """A correct lock could have answered like this."""
    assert judge(read(*lines)).verdict is Verdict.LINEARIZABLE


@pytest.mark.parametrize(("lines", "reason"), BAD.values(), ids=BAD)
def test_what_it_may_not(lines: list[Line], reason: str) -> None:
    """A correct lock could not, and the reason is told."""
    assert reason in _wrong(*lines).reason


def _wrong(*lines: Line, guard: Guard = Guard.SEEN) -> Any:
    found: tuple[ResourceVerdict, ...] = judge(read(*lines), guard=guard).of(Verdict.NOT_LINEARIZABLE)
    assert len(found) == 1
    assert found[0].conflict is not None
    return found[0].conflict


def test_a_guard_beside_the_lock_knows_more() -> None:
    """A write with an old token that the store has not seen surpassed is wrong where the store knows what was granted."""
    lines = [A, about("release", "a", 20, 25), B, write("a", 10, 61, 62)]
    assert judge(read(*lines)).verdict is Verdict.LINEARIZABLE
    assert "accepted after token 20, granted to b" in _wrong(*lines, guard=Guard.GRANTED).reason
    assert (
        "token 99 was accepted, and no such token had been granted"
        in _wrong(A, write("x", 99, 10, 15), guard=Guard.GRANTED).reason
    )


def test_only_what_contradicts_is_told() -> None:
    """Of a long history the prefix is counted, and the two operations that do not go together are named, in words."""
    before = []
    for number in range(200):
        at = 10 * number
        before += [
            acquire(f"w{number}", at, at + 2, 100 + number),
            write(f"w{number}", 100 + number, at + 3, at + 4),
            about("release", f"w{number}", at + 5, at + 6),
        ]
    bad = [acquire("a", 3000, 3005, 1000), acquire("b", 3003, 3060, 2000)]
    after = [about("release", "b", 3070, 3075), acquire("z", 3080, 3090, 3000)]
    conflict = _wrong(*before, *bad, *after)
    assert conflict.prefix == 602
    assert conflict.prefix_end_ns == 3060 * MS
    assert [words(one, conflict.origin_ns) for one in conflict.operations] == [
        "a: acquire exclusive, grant g-a, lease 100 ms: ok, token 1000 [+3,000.000 ms to +3,005.000 ms] history:601",
        "b: acquire exclusive, grant g-b, lease 100 ms: ok, token 2000 [+3,003.000 ms to +3,060.000 ms] history:602",
    ]


def test_a_contradiction_later_than_where_the_search_stops() -> None:
    """A token that is too small ends the prefix, although the search knows of it when the larger one is granted."""
    conflict = _wrong(acquire("a", 0, 5, 20), about("release", "a", 6, 7), acquire("b", 10, 15, 10))
    assert conflict.stuck.owner == "b"
    assert conflict.prefix == 3


def test_too_many_states_are_an_unknown_verdict() -> None:
    """What is not decided within the limit is neither accepted nor rejected."""
    lines = [acquire(f"r{number}", 0, 90, 10 + number, **SHARED) for number in range(8)]
    report = judge(read(*lines), states_max=3)
    assert report.verdict is Verdict.UNKNOWN
    assert report.of(Verdict.UNKNOWN)[0].states == 4


def test_ten_thousand_waiters_are_judged() -> None:
    """A queue of ten thousand on one lock, all called before the first release, takes about a state an operation."""
    count = 10_000
    lines = []
    for number in range(count):
        at = count + 10 * number
        lines += [
            acquire(f"w{number}", number % 97, at + 2, number + 1, lease_ms=1_000),
            about("release", f"w{number}", at + 3, at + 11),
        ]
    report = judge(read(*lines))
    assert report.verdict is Verdict.LINEARIZABLE
    assert report.resources[0].states <= 3 * len(lines)
