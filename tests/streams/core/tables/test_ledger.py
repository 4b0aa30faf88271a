"""What came of transactions, from events."""

from __future__ import annotations

from typing import Any

from streams.core.tables.ledger import Ledger, explained

CONFLICT = {"table": "t", "key": "d/a", "span": False, "row": "d/a", "seen": 3, "version": 7, "txn": "other", "owner": "bob"}


def change(kind: str, position: int, **more: Any) -> dict[str, Any]:
    base = {"kind": kind, "position": position, "at_ms": position, "domain": "d", "txn": "x", "owner": "ann"}
    return {"changes": [base | {"isolation": "serializable", "writes": [], "participants": []} | more]}


def refused(**more: Any) -> dict[str, Any]:
    base = {"domain": "d", "txn": "x", "owner": "ann", "request_id": "", "position": 9, "code": "conflict", "reason": "changed"}
    return base | {"conflicts": [CONFLICT], "waits_for": []} | more


def test_a_refusal_names_who_was_first() -> None:
    """With versions, transaction and agent."""
    ledger = Ledger()
    ledger.take("transaction.refused", refused(), 5)
    entry = ledger.entries["x"]
    assert entry.state == "refused"
    said = " ".join(explained(entry))
    assert "It was refused (conflict): changed." in said
    assert "It saw t d/a at 3; bob has made that version 7 with transaction other." in said


def test_a_transaction_over_several_domains_is_one_entry() -> None:
    """Promised, then decided, then committed here and there; what comes late or twice changes nothing."""
    ledger = Ledger()
    both = {"participants": ["d", "e"]}
    ledger.take("tables.changed", change("prepared", 1, **both), 0)
    assert ledger.entries["x"].state == "prepared"
    decided = {
        "txn": "x",
        "owner": "ann",
        "known": True,
        "decided": True,
        "commit": True,
        "code": "",
        "reason": "",
        "conflicts": [],
    }
    ledger.take("transaction.decided", decided | both, 0)
    written = [{"table": "t", "key": "e/1", "value": "1"}]
    for _ in range(2):
        ledger.take("tables.changed", change("committed", 4, domain="e", writes=written, **both), 0)
    ledger.take("tables.changed", change("committed", 2, **both), 0)
    ledger.take("transaction.refused", refused(), 5)
    entry = ledger.entries["x"]
    assert entry.state == "committed"
    assert entry.domains == {"d": {"state": "committed", "position": 2}, "e": {"state": "committed", "position": 4}}
    assert entry.writes == [{"domain": "e", "table": "t", "key": "e/1"}]


def test_locks_and_waits_are_shown_while_they_last() -> None:
    """A refused request for locks ends a wait, not the transaction."""
    ledger = Ledger()
    who = {"domain": "d", "txn": "x", "owner": "ann", "request_id": "r"}
    locks = [{"table": "t", "key": "d/a", "span": False, "mode": "shared"}]
    ledger.take("transaction.locked", who | {"position": 3, "locks": locks}, 0)
    ledger.take("transaction.queued", who | {"behind": ["bob"]}, 0)
    assert ledger.entries["x"].state == "waiting"
    assert "It waits for bob." in explained(ledger.entries["x"])
    ledger.take("transaction.refused", refused(request_id="r", code="timed_out"), 0)
    assert not ledger.entries["x"].waits_for
    ledger.take("tables.changed", change("committed", 5), 0)
    assert not ledger.entries["x"].locks


def test_selecting_goes_by_state_domain_owner_and_time() -> None:
    """The one that was heard of last comes last."""
    ledger = Ledger()
    ledger.take("tables.changed", change("committed", 5, txn="y", owner="bob"), 0)
    ledger.take("tables.changed", change("committed", 6, domain="e"), 0)
    ledger.take("tables.changed", change("mark", 7, txn="m", owner=""), 0)
    assert [one.txn for one in ledger.select()] == ["y", "x"]
    assert [one.txn for one in ledger.select(domain="e", state="committed", owner="a", since_ms=6)] == ["x"]
