"""Moments of several domains: every transaction over several is whole, and nothing newer would do."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from streams.core.tables.cuts import Crossings

DOMAINS = ("a", "b", "c")
Where = dict[str, dict[str, int]]
"""Of each transaction, its position in each domain."""


@st.composite
def logs(draw: st.DrawFn) -> tuple[Where, dict[str, int]]:
    """Return transactions with their positions, and how far each domain has been read."""
    where: Where = {}
    last = dict.fromkeys(DOMAINS, 0)
    for number in range(draw(st.integers(0, 6))):
        where[f"t{number}"] = dict.fromkeys(draw(st.lists(st.sampled_from(DOMAINS), min_size=2, max_size=3, unique=True)), 0)
    for domain in DOMAINS:
        for txn in draw(st.permutations([txn for txn, at in where.items() if domain in at])):
            last[domain] += draw(st.integers(1, 2))
            where[txn][domain] = last[domain]
    return where, {domain: draw(st.integers(0, last[domain])) for domain in DOMAINS}


def whole(where: Where, cut: dict[str, int]) -> bool:
    """Return whether each transaction is in all of its domains or in none."""
    return all(len({position <= cut[domain] for domain, position in at.items()}) == 1 for at in where.values())


def shown(where: Where, read: dict[str, int]) -> Crossings:
    crossings = Crossings()
    for domain in DOMAINS:
        crossings.track(domain)
    for txn, at in where.items():
        for domain, position in at.items():
            if position <= read[domain]:
                crossings.shown(txn, domain, position, list(at), 0)
    return crossings


@given(logs())
def test_a_cut_is_the_newest_at_which_all_is_whole(log: tuple[Where, dict[str, int]]) -> None:
    """Compared with all cuts that there are."""
    where, read = log
    cut = shown(where, read).cut(read)
    assert whole(where, cut)
    assert all(cut[domain] <= read[domain] for domain in DOMAINS)
    ranges = (range(read[domain] + 1) for domain in DOMAINS)
    for one in itertools.product(*ranges):
        other = dict(zip(DOMAINS, one, strict=True))
        if whole(where, other):
            assert all(other[domain] <= cut[domain] for domain in DOMAINS)


@given(logs(), st.data())
def test_a_later_cut_that_keeps_a_position_is_whole_or_says_that_there_is_none(
    log: tuple[Where, dict[str, int]], data: st.DataObject
) -> None:
    """What was read in one domain stays; the others are put back as far as that needs."""
    where, read = log
    fixed = data.draw(st.sampled_from(DOMAINS))
    at = data.draw(st.integers(0, read[fixed]))
    cut = shown(where, read).cut(read | {fixed: at})
    assert whole(where, cut)
    ranges = (range(at, at + 1) if domain == fixed else range(read[domain] + 1) for domain in DOMAINS)
    possible = any(whole(where, dict(zip(DOMAINS, one, strict=True))) for one in itertools.product(*ranges))
    assert (cut[fixed] == at) == possible


@given(logs(), st.data())
def test_forgetting_what_lies_behind_changes_no_cut(log: tuple[Where, dict[str, int]], data: st.DataObject) -> None:
    """Floors are positions of a cut that somebody still reads at."""
    where, read = log
    crossings, kept = shown(where, read), shown(where, read)
    floors = crossings.cut({domain: data.draw(st.integers(0, read[domain])) for domain in DOMAINS})
    crossings.forget(floors)
    assert crossings.cut(read) == kept.cut(read)
    assert crossings.cut(read | {"a": floors["a"]}) == kept.cut(read | {"a": floors["a"]})


def test_what_a_domain_has_committed_before_it_was_followed_is_unclear_until_it_is_asked() -> None:
    """Its promise, or the answer, makes it clear."""
    crossings = Crossings()
    crossings.track("a")
    crossings.promised("t1", "a", ["a", "b"])
    crossings.shown("t2", "a", 5, ["a", "b"], 0)
    crossings.track("b")
    assert crossings.unclear("b") == ["t1", "t2"]
    crossings.promised("t1", "b")
    crossings.shown("t2", "b", 3, (), 0)
    assert not crossings.unclear("b")
    assert not crossings.halves
    crossings.rolled_back("t1")
    assert crossings.cut({"a": 9, "b": 9}) == {"a": 9, "b": 9}
