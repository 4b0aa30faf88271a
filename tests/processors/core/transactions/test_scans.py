"""What a prefix has, in order and since a snapshot: against looking at everything."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.core.transactions import orders
from processors.core.transactions import rows as module
from processors.core.transactions.orders import Order
from processors.core.transactions.rows import Rows
from processors.core.transactions.words import TableLimits

NAMES = ["a", "b", "b/", "b/x", "b/\U0010ffff", "b/\U0010ffffz", "ba", "é"]
PLACES = st.tuples(st.sampled_from(["t", "u"]), st.sampled_from([f"d/{name}" for name in NAMES] + ["d", "e/b"]))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("write"), PLACES, st.integers(0, 400)),
        st.tuples(st.just("delete"), PLACES, st.integers(0, 400)),
        st.tuples(st.just("reload"), PLACES, st.just(0)),
        st.tuples(st.just("look"), PLACES, st.integers(0, 30)),
    ),
    max_size=40,
)


@settings(max_examples=300)
@given(STEPS, st.sampled_from([0, 1, 100]), st.sampled_from([0, 100]), st.sampled_from([2, 5, 1_000]))
def test_scans_and_pages_say_what_is_there(
    steps: list[tuple[str, tuple[str, str], int]], one_by_one: int, few: int, recent: int
) -> None:
    """By the recent changes, by a prefix's rows or by all: a changed row is found, and no other, also after a reload."""
    limits = TableLimits(recent_max=recent, horizon_ms=300)
    rows, now_ms, position = Rows(limits), 1_000, 0
    kept: dict[tuple[str, str], list[Any]] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders, "ONE_BY_ONE_MAX", one_by_one)
        patch.setattr(module, "FEW_CHANGES", few)
        for what, place, number in steps:
            if what in ("write", "delete"):
                position += 1
                now_ms += number
                rows.bury(now_ms)
                rows.write(place, None if what == "delete" else "1", (position, "x", "o", now_ms, 0))
            elif what == "reload":
                rows, old = Rows(limits), rows
                rows.gone, rows.gone_ms, rows.last = old.gone, old.gone_ms, old.last
                rows.load(list(kept.items()))
            else:
                snapshot = max(rows.gone, position - number)
                prefix = place[1] if "/" in place[1] else "d/"
                domain = prefix.partition("/")[0]
                wanted = sorted(
                    one
                    for one, row in kept.items()
                    if one[0] == place[0] and one[1].startswith(prefix) and row[1][-1][0] > snapshot
                )
                assert rows.changed_since(domain, place[0], prefix, snapshot) == wanted
                inside = sorted(one for one in kept if one[0] == place[0] and one[1].startswith(prefix) and one > ("t", "d/b"))
                assert [one for one, _ in rows.page(domain, place[0], prefix, ("t", "d/b"))] == inside
                everything = sorted(one for one in kept if one[1].partition("/")[0] == domain)
                assert [one for one, _ in rows.page(domain, "", "", ("", ""))] == everything
            for key, row in rows.changes():
                if row is None:
                    del kept[key[1], key[2]]
                else:
                    kept[key[1], key[2]] = row


def test_an_order_that_nobody_looks_at_is_not_kept() -> None:
    """Writing rows costs nothing for it; looked at, it follows."""
    order = Order()
    for number in (3, 1, 2):
        order.add(("t", str(number)))
    order.remove(("t", "1"))
    assert order.line() == [("t", "2"), ("t", "3")]
    order.add(("t", "1"))
    order.add(("t", "4"))
    order.remove(("t", "4"))
    assert order.line() == [("t", "1"), ("t", "2"), ("t", "3")]
