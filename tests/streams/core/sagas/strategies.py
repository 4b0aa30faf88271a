"""Definitions as hypothesis makes them: any that can be held, and any that can run."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from streams.core.sagas.definition import (
    RESERVED,
    Approval,
    Case,
    Child,
    Choice,
    Definition,
    Each,
    Join,
    Lock,
    Loop,
    Node,
    Retry,
    Schedule,
    Signal,
    Step,
    Timer,
)

names = st.from_regex(r"[a-z][a-z_]{0,5}", fullmatch=True).filter(lambda name: name not in RESERVED)
texts = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=8)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
failing = st.sampled_from(["compensate", "go_on", "skip"])
needs = st.sampled_from(["all", "any"]) | st.integers(-1, 5)
times = st.integers(-5, 10**6)
retries = st.builds(
    Retry,
    attempts=times,
    backoff_ms=times,
    factor=st.floats(-1, 20),
    backoff_ms_max=times,
    jitter=st.floats(-1, 2),
    never=st.lists(texts, max_size=2).map(tuple),
)
afters = st.lists(names, max_size=2).map(tuple)


def _nodes(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    bodies = st.lists(inner, max_size=3).map(tuple)
    return st.builds(
        Loop, name=names, after=afters, body=bodies, until=texts, passes_max=times, result=json_values,
        at_bound=st.sampled_from(["fail", "go_on"]), if_fails=failing,
    ) | st.builds(
        Each, name=names, after=afters, items=texts, body=bodies, items_max=times, parallel_max=times, result=json_values,
        need=needs, if_fails=failing,
    )  # fmt: skip


_leaves: st.SearchStrategy[Node] = st.one_of(
    st.builds(
        Step, name=names, after=afters, handler=names | texts, input=json_values, compensation=names | texts,
        compensation_input=json_values, timeout_ms=times, retry=retries, compensation_timeout_ms=times,
        compensation_retry=retries, pivot=st.booleans(), grant=names | texts, if_fails=failing,
    ),
    st.builds(
        Choice, name=names, after=afters, cases=st.lists(st.builds(Case, texts, names), max_size=2).map(tuple),
        otherwise=names | texts,
    ),
    st.builds(Join, name=names, after=afters, need=needs, rest=st.sampled_from(["run_on", "cancel"]), if_fails=failing),
    st.builds(
        Child, name=names, after=afters, definition=names | texts, version=times, input=json_values, timeout_ms=times,
        compensate=st.booleans(), if_fails=failing,
    ),
    st.builds(Approval, name=names, after=afters, ask=json_values, approvers=texts, timeout_ms=times, if_fails=failing),
    st.builds(Signal, name=names, after=afters, signal=names | texts, timeout_ms=times, if_fails=failing),
    st.builds(Timer, name=names, after=afters, wait_ms=times, until=texts),
    st.builds(
        Lock, name=names, after=afters, resource=texts, mode=st.sampled_from(["write", "read"]), timeout_ms=times,
        lease_ms=times, if_fails=failing,
    ),
)  # fmt: skip
any_node: st.SearchStrategy[Node] = st.recursive(_leaves, _nodes, max_leaves=6)
any_definition = st.builds(
    Definition,
    name=names | texts,
    version=times,
    nodes=st.lists(any_node, max_size=5).map(tuple),
    inputs=st.lists(texts, max_size=2).map(tuple),
    result=json_values,
    deadline_ms=times,
    description=texts,
    schedules=st.lists(
        st.builds(Schedule, name=texts, cron=texts, at=texts, every_ms=times, zone=texts, input=json_values), max_size=2
    ).map(tuple),
)
"""Any that can be held; hardly one of them can run."""


@st.composite
def good_definitions(draw: st.DrawFn) -> Definition:
    """Definitions that can run: an acyclic graph of every kind of node, edges only to later nodes."""
    count = draw(st.integers(1, 7))
    nodes: list[Node] = []
    for number in range(count):
        earlier = [node.name for node in nodes if not isinstance(node, Choice)]
        after = tuple(draw(st.lists(st.sampled_from(earlier), max_size=3, unique=True))) if earlier else ()
        nodes.append(draw(_good_node(f"n{number}", after)))
    last = tuple(node.name for node in nodes if not isinstance(node, Choice))
    nodes += [Step(name="yes", handler="yes"), Step(name="no", handler="no")]
    nodes.append(Choice(name="which", after=last[:1], cases=(Case("input.a == 1", "yes"),), otherwise="no"))
    return Definition(name="good", nodes=tuple(nodes), result={"a": "=n0"})


@st.composite
def _good_node(draw: st.DrawFn, name: str, after: tuple[str, ...]) -> Node:
    reads = [f"={one}.x" for one in after] or ["=input.x"]
    body = (Step(name=f"{name}_a", handler="h"), Step(name=f"{name}_b", handler="h", after=(f"{name}_a",), input=f"={name}_a"))
    kinds: list[Node] = [
        Step(name=name, after=after, handler="h", compensation="u", input={"v": draw(st.sampled_from(reads))}),
        Loop(name=name, after=after, body=body, until=f"{name}_b.ok", passes_max=3),
        Each(name=name, after=after, items="input.list", body=body, items_max=9, result=f"={name}_b"),
        Child(name=name, after=after, definition="other", version=1),
        Approval(name=name, after=after),
        Signal(name=name, after=after, signal="go"),
        Timer(name=name, after=after, wait_ms=5),
        Lock(name=name, after=after, resource="=input.r"),
    ]
    if len(after) > 1:
        kinds.append(Join(name=name, after=after, need=draw(st.sampled_from(["all", "any", 2]))))
    return draw(st.sampled_from(kinds))
