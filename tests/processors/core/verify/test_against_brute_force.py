"""The search gives the verdict of a judge by exhaustion, on small histories of every kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import example, given, settings
from hypothesis import strategies as st

from processors.core.verify import NEVER_NS, Guard, Kind, Operation, Outcome, Verdict, judge
from processors.core.verify.model import LockModel
from processors.core.verify.search import search
from processors.core.verify.telling import telling
from tests.processors.core.verify.brute import possible

TICKS = 8
"""Short enough that operations overlap and leases end between them."""


@st.composite
def histories(draw: st.DrawFn, operations_max: int = 6) -> list[Operation]:
    """Any operations of two or three owners on one lock, with small times, tokens and leases; most are of no correct lock."""
    acquires = draw(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), min_size=1, max_size=4))
    grants = [(f"g{number}", owner) for number, (owner, _) in enumerate(acquires)]
    history = []
    for (grant, owner), (_, exclusive) in zip(grants, acquires, strict=True):
        outcome = draw(st.sampled_from([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.UNKNOWN, Outcome.REFUSED]))
        token = draw(st.integers(1, 5)) if outcome is Outcome.OK else 0
        reason = draw(st.sampled_from(["held", "limit"])) if outcome is Outcome.REFUSED else ""
        history.append(_operation(draw, Kind.ACQUIRE, outcome, grant, owner, exclusive=exclusive, token=token, reason=reason))
    for _ in range(draw(st.integers(0, operations_max - len(acquires)))):
        kind = draw(st.sampled_from([Kind.RELEASE, Kind.RELEASE, Kind.RENEW, Kind.WRITE, Kind.EXPIRE]))
        outcome = Outcome.OK
        if kind is not Kind.EXPIRE:
            outcome = draw(st.sampled_from([Outcome.OK, Outcome.OK, Outcome.REFUSED, Outcome.UNKNOWN]))
        grant, owner = draw(st.sampled_from(grants))
        owner = draw(st.sampled_from([owner, owner, owner, "z"]))
        if kind is Kind.WRITE:
            store = draw(st.sampled_from(["", "other"]))
            history.append(_operation(draw, kind, outcome, "", owner, token=draw(st.integers(1, 5)), store=store))
        else:
            history.append(_operation(draw, kind, outcome, grant, owner))
    history.sort(key=lambda one: (one.call_ns, one.return_ns))
    return [replace(one, place=f"history:{number}") for number, one in enumerate(history, 1)]


def _operation(draw: st.DrawFn, kind: Kind, outcome: Outcome, grant: str, owner: str, **fields: object) -> Operation:
    call = draw(st.integers(0, TICKS - 1))
    back = NEVER_NS if outcome is Outcome.UNKNOWN else draw(st.integers(call, TICKS))
    lease = draw(st.sampled_from([1, 2, 4, NEVER_NS])) if kind in (Kind.ACQUIRE, Kind.RENEW) else NEVER_NS
    shape = {"kind": kind, "outcome": outcome, "grant": grant, "owner": owner, "call_ns": call, "return_ns": back}
    return Operation(place="", client=owner, resource="r", lease_ns=lease, **shape, **fields)  # type: ignore[arg-type]


def _lent() -> list[Operation]:
    """A shared grant that nobody was told of keeps a token from one that was released to the next."""

    def one(number: int, kind: Kind, outcome: Outcome, at: int, grant: str, token: int = 0) -> Operation:
        back = at if outcome is Outcome.OK else NEVER_NS
        lease = 1 if kind is Kind.ACQUIRE else NEVER_NS
        what = {"kind": kind, "outcome": outcome, "grant": grant, "owner": "b", "client": "b", "exclusive": False}
        when = {"call_ns": at, "return_ns": back, "lease_ns": lease}
        return Operation(place=f"history:{number}", resource="r", token=token, **what, **when)  # type: ignore[arg-type]

    return [
        one(1, Kind.ACQUIRE, Outcome.OK, 0, "g0", 1),
        one(2, Kind.RELEASE, Outcome.OK, 0, "g0"),
        one(3, Kind.ACQUIRE, Outcome.UNKNOWN, 0, "g2"),
        one(4, Kind.ACQUIRE, Outcome.OK, 1, "g1", 1),
    ]


@settings(max_examples=1_500)
@example(_lent(), Guard.SEEN)
@given(histories(), st.sampled_from(Guard))
def test_the_verdict_is_that_of_exhaustion(history: list[Operation], guard: Guard) -> None:
    """Any small history is linearizable for the search exactly if some course of a lock explains it."""
    verdict = judge(history, guard=guard, slack_ns=0).verdict
    assert verdict is (Verdict.LINEARIZABLE if possible(history, guard) else Verdict.NOT_LINEARIZABLE)


@settings(max_examples=500)
@given(histories(), st.sampled_from(Guard))
def test_order_by_token_changes_no_verdict(history: list[Operation], guard: Guard) -> None:
    """To leave out orders that overtake a token only makes the search shorter."""
    model = LockModel(guard, 0, frozenset(one.grant for one in history))
    found = [search(telling(history), model, states_max=100_000, by_token=by_token).linearizable for by_token in (True, False)]
    assert found[0] is found[1]


@settings(max_examples=500)
@given(histories(), st.sampled_from(Guard))
def test_what_is_told_is_the_shortest_prefix_and_fails_by_itself(history: list[Operation], guard: Guard) -> None:
    """One answer less and the prefix has an order; the operations named as the contradiction have none either."""
    report = judge(history, guard=guard, slack_ns=0)
    for one in report.of(Verdict.NOT_LINEARIZABLE):
        assert one.conflict is not None
        end = one.conflict.prefix_end_ns
        assert one.conflict.prefix == sum(other.call_ns <= end for other in history)
        model = LockModel(guard, 0, frozenset(one.grant for one in history))
        earlier = sorted(other.return_ns for other in telling(history) if other.return_ns < end)
        assert search(telling(history), model, states_max=100_000, cut_ns=end).linearizable is False
        if earlier:
            assert search(telling(history), model, states_max=100_000, cut_ns=earlier[-1]).linearizable
        assert _cannot_be(one.conflict.operations, end, guard)


def _cannot_be(operations: Sequence[Operation], cut_ns: int, guard: Guard) -> bool:
    """Whether no course of a lock explains these, where those answered after the cut need not have happened."""
    model = LockModel(guard, 0, frozenset(one.grant for one in operations))
    return search(operations, model, states_max=100_000, cut_ns=cut_ns).linearizable is False
