"""Who depends on whom: the order of each list's elements, and the edges between transactions that follow from it.

A read of a list shows the order of all its elements, so the longest list that was read is the order of versions, and every
other read has to be a beginning of it. Then

    ww   its append comes before the other's in the list
    wr   it appended what the other read last
    rw   it read the list as it was before the other appended to it: an anti-dependency. By a scan that did not find the row at
    all
         it is one of a predicate

(Adya 1999, chapter 4; Kingsbury and Alvaro 2020, "Elle: inferring isolation anomalies from experimental observations".)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from processors.core.verify.transactions.model import Outcome, Transaction, Value, external

__all__ = ["Edge", "Graph", "Wrong", "build"]


@dataclass(frozen=True, slots=True)
class Edge:
    """Why one transaction has to come before another.

    Attributes:
        kind: "ww", "wr", "rw", "rw predicate", "realtime" or "process".
        why: In words; empty for the last two.
    """

    kind: str
    key: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Something that is wrong whatever the order of transactions.

    Attributes:
        name: Of the anomaly.
        text: What was seen.
        transactions: Those that it is about.
    """

    name: str
    text: str
    transactions: tuple[Transaction, ...]


@dataclass(slots=True)
class Graph:
    """The dependencies of a history.

    Attributes:
        nodes: Transactions that committed, or whose appends were seen.
        edges: Edges by the numbers of two nodes; one of each kind.
        wrong: What needs no cycle.
    """

    nodes: list[Transaction]
    edges: dict[int, dict[int, list[Edge]]] = field(default_factory=lambda: defaultdict(dict))
    wrong: list[Wrong] = field(default_factory=list)

    def add(self, one: int, other: int, edge: Edge) -> None:
        """Add an edge."""
        if one == other:
            return
        known = self.edges[one].setdefault(other, [])
        if all(its.kind != edge.kind for its in known):
            known.append(edge)


@dataclass(slots=True)
class _Seen:
    """The appends of a history, and what was read of them."""

    writer: dict[tuple[str, Value], Transaction] = field(default_factory=dict)
    longest: dict[str, tuple[Value, ...]] = field(default_factory=dict)
    by: dict[str, Transaction] = field(default_factory=dict)
    """Who read the longest list of a key."""


def build(history: Sequence[Transaction], *, realtime: bool = False) -> Graph:
    """Return the graph of a history.

    Args:
        history: Its transactions.
        realtime: Whether one that had ended before another began comes before it (strict serializability).
    """
    seen = _Seen()
    for one in history:
        for key, values in one.appends().items():
            for value in values:
                seen.writer[key, value] = one
    wrong: list[Wrong] = []
    observed: set[str] = set()
    readers = [one for one in history if one.outcome is Outcome.COMMITTED]
    for one in readers:
        _look(one, seen, observed, wrong)
    nodes = [
        one for one in history if one.outcome is Outcome.COMMITTED or (one.outcome is Outcome.UNKNOWN and one.name in observed)
    ]
    graph = Graph(nodes)
    graph.wrong = wrong
    number = {one.name: n for n, one in enumerate(nodes)}
    wrong += _interrupted(seen)
    _order(graph, seen, number)
    _reads(graph, seen, number, readers)
    if realtime:
        _realtime(graph)
    return graph


def _look(one: Transaction, seen: _Seen, observed: set[str], wrong: list[Wrong]) -> None:
    """Check a transaction's reads by themselves, and keep the longest lists."""
    for key, values, _, ends in external(one):
        if not ends:
            wrong.append(
                Wrong("internal", f"{one.name} read {_short(values)} of {key}, without its own appends at the end", (one,))
            )
            continue
        if len(set(values)) < len(values):
            wrong.append(Wrong("duplicate elements", f"{one.name} read {_short(values)} of {key}, one of them twice", (one,)))
            continue
        for value in values:
            writer = seen.writer.get((key, value))
            if writer is None:
                wrong.append(Wrong("garbage read", f"{one.name} read {value!r} of {key}, which nobody appended", (one,)))
                break
            if writer.outcome is Outcome.ABORTED:
                text = f"{one.name} read {value!r} of {key}, which {writer.name} appended and took back"
                wrong.append(Wrong("G1a", text, (one, writer)))
                break
            observed.add(writer.name)
        else:
            _compare(one, key, values, seen, wrong)


def _compare(one: Transaction, key: str, values: tuple[Value, ...], seen: _Seen, wrong: list[Wrong]) -> None:
    longest = seen.longest.get(key, ())
    shorter, longer = sorted((values, longest), key=len)
    if longer[: len(shorter)] != shorter:
        other = seen.by[key]
        text = f"{one.name} read {_short(values)} of {key}, {other.name} {_short(longest)}: neither is a beginning of the other"
        wrong.append(Wrong("incompatible order", text, (one, other)))
    elif len(values) > len(longest):
        seen.longest[key], seen.by[key] = values, one
    if values:
        writer = seen.writer[key, values[-1]]
        appended = writer.appends()[key]
        if writer is not one and values[-1] != appended[-1]:
            text = f"{one.name} read {key} up to {values[-1]!r}, half of what {writer.name} appended: {_short(appended)}"
            wrong.append(Wrong("G1b", text, (one, writer)))


def _interrupted(seen: _Seen) -> list[Wrong]:
    """Return where a transaction's appends to one list have another's between them."""
    wrong = []
    for key, values in seen.longest.items():
        ended: set[str] = set()
        for value, following in pairwise(values):
            writer, after = seen.writer[key, value], seen.writer[key, following]
            if writer is not after:
                ended.add(writer.name)
            if after.name in ended:
                text = f"in {key} an append of {writer.name} lies between two of {after.name}: {_short(values)}"
                wrong.append(Wrong("G0", text, (writer, after)))
                break
    return wrong


def _order(graph: Graph, seen: _Seen, number: dict[str, int]) -> None:
    for key, values in seen.longest.items():
        for value, following in pairwise(values):
            one, other = seen.writer[key, value], seen.writer[key, following]
            if one is not other:
                why = f"{one.name} appended {value!r} to {key}, and {other.name} {following!r} after it"
                graph.add(number[one.name], number[other.name], Edge("ww", key, why))
    for key, unread in _unread(graph, seen).items():
        values = seen.longest.get(key, ())
        if values:
            last = seen.writer[key, values[-1]]
            for other, value in unread:
                why = f"{last.name} appended {values[-1]!r} to {key}, and {other.name} {value!r} after all that was read"
                graph.add(number[last.name], number[other.name], Edge("ww", key, why))


def _unread(graph: Graph, seen: _Seen) -> dict[str, list[tuple[Transaction, Value]]]:
    """Return the committed appends that nobody read: they come after all that was."""
    found: dict[str, list[tuple[Transaction, Value]]] = defaultdict(list)
    for one in graph.nodes:
        for key, values in one.appends().items():
            if values[0] not in seen.longest.get(key, ()):
                found[key].append((one, values[0]))
    return found


def _reads(graph: Graph, seen: _Seen, number: dict[str, int], readers: Sequence[Transaction]) -> None:
    unread = _unread(graph, seen)
    keys = sorted({*seen.longest, *unread})
    places = {key: {value: n for n, value in enumerate(values)} for key, values in seen.longest.items()}
    for one in readers:
        me = number[one.name]
        for key, values, _, _ in external(one):
            if values and values[-1] not in places.get(key, {}):
                continue  # it was told of as an incompatible order
            if values:
                writer = seen.writer.get((key, values[-1]))
                if writer is not None and writer.name in number:
                    why = f"{one.name} read {values[-1]!r} of {key}, which {writer.name} appended"
                    graph.add(number[writer.name], me, Edge("wr", key, why))
            _before(graph, seen, number, one, key, values, unread, "rw")
        for op in one.ops:
            if op.kind == "scan":
                for key in keys:
                    if key.startswith(op.key) and key not in op.found:
                        _before(graph, seen, number, one, key, (), unread, "rw predicate")


def _before(
    graph: Graph,
    seen: _Seen,
    number: dict[str, int],
    one: Transaction,
    key: str,
    values: tuple[Value, ...],
    unread: dict[str, list[tuple[Transaction, Value]]],
    kind: str,
) -> None:
    """Add what follows from a reader not having seen the next append."""
    longest = seen.longest.get(key, ())
    following = longest[len(values) :]
    nexts = [(seen.writer[key, value], value) for value in following[:1]] or list(unread.get(key, ()))
    for writer, value in nexts:
        if writer.name in number and writer is not one:
            what = "scanned and did not find" if kind == "rw predicate" else "read"
            why = f"{one.name} {what} {key} without {value!r}, which {writer.name} appended"
            graph.add(number[one.name], number[writer.name], Edge(kind, key, why))


def _realtime(graph: Graph) -> None:
    """Add edges from those that had ended to those that began then; what follows through others is left out."""
    nodes = graph.nodes
    begins = sorted(range(len(nodes)), key=lambda n: nodes[n].invoked_ns)
    ends = sorted(range(len(nodes)), key=lambda n: nodes[n].ended_ns)
    frontier: dict[int, None] = {}
    taken = 0
    for n in begins:
        while taken < len(ends) and nodes[ends[taken]].ended_ns < nodes[n].invoked_ns:
            done = ends[taken]
            for other in [one for one in frontier if nodes[one].ended_ns < nodes[done].invoked_ns]:
                del frontier[other]
            frontier[done] = None
            taken += 1
        for other in frontier:
            why = f"{nodes[other].name} had ended before {nodes[n].name} began"
            graph.add(other, n, Edge("realtime", "", why))


def _short(values: Sequence[Value]) -> str:
    shown = [repr(one) for one in values]
    return "[" + ", ".join(shown if len(shown) <= 12 else [*shown[:4], "...", *shown[-7:]]) + "]"
