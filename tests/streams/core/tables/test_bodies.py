"""What a transaction has done so far."""

from __future__ import annotations

import pytest

from streams.core.tables.bodies import Body


def test_own_writes_lie_over_the_rows() -> None:
    """In the order of keys, deletions taken away, and of the table and the prefix alone."""
    _, part = Body().part("d/x")
    rows = [("d/a", "1"), ("d/c", "3")]
    assert part.over(rows, "t", "d/") == rows
    part.writes = {
        ("t", "d/b"): ("2", ""),
        ("t", "d/c"): (None, ""),
        ("t", "d/a"): ("one", ""),
        ("u", "d/z"): ("9", ""),
        ("t", "d"): ("8", ""),
    }
    assert part.over(rows, "t", "d/") == [("d/a", "one"), ("d/b", "2")]


def test_going_back_to_a_savepoint_forgets_later_ones_and_later_writes() -> None:
    """Reads stay: it may have acted on them."""
    body = Body()
    body.part("a/1")[1].writes["t", "a/1"] = ("1", "")
    body.savepoint("one")
    body.part("b/1")[1].writes["t", "b/1"] = ("1", "")
    body.part("a/1")[1].reads["t", "a/1"] = None
    body.savepoint("two")
    body.rollback_to("one")
    assert body.writes == 1
    assert body.parts["a"].reads
    with pytest.raises(KeyError):
        body.rollback_to("two")
    body.rollback_to("one")
