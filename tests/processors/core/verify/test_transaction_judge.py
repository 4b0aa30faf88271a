"""The judge of transactions: hand-made histories with every anomaly, clean ones, and a database with bugs."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core.verify.history import HistoryError
from processors.core.verify.transactions import LEVELS, Report, judge, read_transactions
from processors.core.verify.transactions.picture import draw
from tests.processors.core.verify.txn_simulator import BUGS, simulate

A, B, C = "d/a", "d/b", "d/c"


def history(*transactions: tuple[Any, ...], level: str = "serializable", realtime: bool = False) -> Report:
    """Judge transactions named t1, t2, ...: each is its operations, perhaps with an outcome before them."""
    lines = []
    for number, one in enumerate(transactions, 1):
        outcome, ops = (one[0], one[1:]) if one and isinstance(one[0], str) else ("committed", one)
        line = {"txn": f"t{number}", "process": f"p{number}", "invoked_ns": number * 10, "outcome": outcome, "ops": list(ops)}
        lines.append(orjson.dumps(line | ({} if outcome == "unknown" else {"ended_ns": number * 10 + 5})))
    return judge(read_transactions([("hand", lines)]), level=level, realtime=realtime)


def app(key: str, value: int) -> list[Any]:
    return ["append", key, value]


def get(key: str, *values: int) -> list[Any]:
    return ["read", key, list(values)]


def scan(prefix: str, **found: list[int]) -> list[Any]:
    return ["scan", prefix, {f"{prefix}{key}": values for key, values in found.items()}]


KNOWN: dict[str, tuple[str, tuple[tuple[Any, ...], ...], set[str]]] = {
    "write cycle": (
        "G0",
        ((app(A, 1), app(B, 1)), (app(A, 2), app(B, 2)), (get(A, 1, 2), get(B, 2, 1))),
        set(LEVELS),
    ),
    "interrupted appends": ("G0", ((app(A, 1), app(A, 2)), (app(A, 3),), (get(A, 1, 3, 2),)), set(LEVELS)),
    "aborted read": ("G1a", (("aborted", app(A, 1)), (get(A, 1),)), set(LEVELS)),
    "intermediate read": ("G1b", ((app(A, 1), app(A, 2)), (get(A, 1),), (get(A, 1, 2),)), set(LEVELS)),
    "circular information flow": (
        "G1c",
        ((app(A, 1), get(B, 1)), (app(B, 1), get(A, 1))),
        set(LEVELS),
    ),
    "read skew": (
        "G-single",
        ((get(A), get(B, 1)), (app(A, 1), app(B, 1)), (get(A, 1),)),
        {"repeatable_read", "snapshot", "serializable"},
    ),
    "lost update": (
        "lost update",
        ((get(A), app(A, 1)), (get(A), app(A, 2)), (get(A, 1, 2),)),
        {"repeatable_read", "snapshot", "serializable"},
    ),
    "phantom read": (
        "G-single (predicate)",
        ((scan("d/"), get(C, 1)), (app(A, 1), app(C, 1)), (get(A, 1),)),
        {"snapshot", "serializable"},
    ),
    "write skew": (
        "G2-item",
        (
            (get(A, 1), get(B, 1), app(A, 2)),
            (get(A, 1), get(B, 1), app(B, 2)),
            (app(A, 1), app(B, 1)),
            (get(A, 1, 2), get(B, 1, 2)),
        ),
        {"repeatable_read", "serializable"},
    ),
    "write skew of a predicate": (
        "G2",
        ((scan("d/"), app(A, 1)), (scan("d/"), app(B, 1)), (get(A, 1), get(B, 1))),
        {"serializable"},
    ),
    "two orders": ("incompatible order", ((app(A, 1),), (app(A, 2),), (get(A, 1, 2),), (get(A, 2, 1),)), set(LEVELS)),
    "from nowhere": ("garbage read", ((get(A, 7),),), set(LEVELS)),
    "twice": ("duplicate elements", ((app(A, 1),), (get(A, 1, 1),)), set(LEVELS)),
    "own append not seen": ("internal", ((app(A, 1), get(A)),), set(LEVELS)),
}


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_anomaly_is_found_and_named(name: str) -> None:
    """By its name, with a cycle or a sentence, and held against the levels that forbid it."""
    anomaly, transactions, _ = KNOWN[name]
    report = history(*transactions)
    assert anomaly in {one.name for one in report.anomalies}
    assert not report.ok
    found = next(one for one in report.anomalies if one.name == anomaly)
    assert found.text or len(found.cycle) >= 2
    for (_, edge), (one, _) in zip(found.cycle, found.cycle, strict=True):
        assert one.name in edge.why


@pytest.mark.parametrize("name", KNOWN)
def test_levels_allow_what_they_allow(name: str) -> None:
    """A level is broken by what it forbids, and by nothing else."""
    _, transactions, forbidden = KNOWN[name]
    assert {level for level in LEVELS if not history(*transactions, level=level).ok} == forbidden


@pytest.mark.parametrize(
    "transactions",
    [
        ((app(A, 1),), (get(A, 1), app(A, 2)), (get(A, 1, 2),)),
        (("unknown", app(A, 1)), (get(A, 1),)),
        (("unknown", app(A, 1)), (get(A),)),
        (("aborted", app(A, 1)), (get(A),)),
        ((app(A, 1), get(A, 1), app(A, 2), get(A, 1, 2)),),
        ((scan("d/"), app(A, 1)), (scan("d/", a=[1]), app(B, 1))),
    ],
)
def test_clean_histories_are_accepted(transactions: tuple[Any, ...]) -> None:
    """Also those with transactions that took back, or whose outcome nobody knows."""
    assert history(*transactions).anomalies == ()


def test_time_counts_where_asked() -> None:
    """Who reads the old list after a commit had ended is fine without the order of time, and not with it."""
    transactions = ((app(A, 1),), (get(A),), (get(A, 1),))
    assert history(*transactions).ok
    assert not history(*transactions, realtime=True).ok


@given(st.sampled_from(LEVELS), st.integers(0, 10**9))
@settings(max_examples=150)
def test_a_correct_database_is_accepted(level: str, seed: int) -> None:
    """At each level, whatever its clients do."""
    report = judge(simulate(level, "", seed), level=level)
    assert report.ok, [(one.name, one.text, one.cycle) for one in report.forbidden]


@pytest.mark.parametrize("level", ["read_committed", "repeatable_read", "snapshot"])
def test_a_weak_level_is_not_serializable(level: str) -> None:
    """Held against serializable, some run of a weaker level is not."""
    assert any(not judge(simulate(level, "", seed), level="serializable").ok for seed in range(20))


@pytest.mark.parametrize("bug", BUGS)
def test_every_bug_is_found(bug: str) -> None:
    """A database that should be serializable and has the bug is caught within some runs."""
    assert any(not judge(simulate("serializable", bug, seed), level="serializable").ok for seed in range(40))


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (b"{", "no JSON"),
        (b"[]", "not a JSON object"),
        (b'{"txn": "a", "colour": 1}', "unknown field"),
        (b'{"txn": ""}', "txn"),
        (b'{"txn": "a", "process": "p", "invoked_ns": 1}', "without ops"),
        (b'{"txn": "a", "process": "p", "invoked_ns": 1, "ops": [["push", "k", 1]]}', "operation 1"),
        (b'{"txn": "a", "process": "p", "invoked_ns": 1, "ops": [["append", "k", 1.5]]}', "operation 1"),
        (b'{"txn": "a", "process": "p", "invoked_ns": 1, "ops": [["read", "k", {}]]}', "operation 1"),
        (b'{"txn": "a", "process": "p", "invoked_ns": 1, "ops": [["scan", "k", {"z": []}]]}', "begin with"),
        (b'{"txn": "a", "process": "p", "invoked_ns": 1, "outcome": "perhaps", "ops": []}', "outcome"),
        (b'{"txn": "a", "process": "p", "invoked_ns": 9, "ended_ns": 1, "outcome": "aborted", "ops": []}', "before"),
        (b'{"txn": "a", "process": "p", "invoked_ns": 1, "ops": [["append", "k", 1], ["append", "k", 1]]}', "once"),
    ],
)
def test_what_is_no_history_is_refused_with_its_line(line: bytes, word: str) -> None:
    """Each mistake with file and line, and what is allowed."""
    with pytest.raises(HistoryError) as raised:
        read_transactions([("file.jsonl", [b"", line])])
    assert "file.jsonl:2: " in str(raised.value)
    assert word in str(raised.value)


def test_parts_of_a_transaction_are_put_together() -> None:
    """The line before the commit and the one after it, in whatever order; two that contradict are refused."""
    begun = b'{"txn": "a", "process": "p", "invoked_ns": 1, "ops": [["append", "k", 1]]}'
    ended = b'{"txn": "a", "ended_ns": 5, "outcome": "committed"}'
    for lines in ([begun, ended], [ended, begun]):
        (one,) = read_transactions([("f", lines)])
        assert (one.outcome, one.ended_ns) == ("committed", 5)
    with pytest.raises(HistoryError, match="used once"):
        read_transactions([("f", [begun, ended, b'{"txn": "a", "outcome": "aborted"}'])])


def test_a_cycle_is_drawn() -> None:
    """An SVG that names each transaction and each edge."""
    report = history(*KNOWN["write skew"][1])
    picture = draw(report.anomalies[0])
    assert picture.startswith("<svg")
    for one, edge in report.anomalies[0].cycle:
        assert one.name in picture
        assert edge.why in picture
