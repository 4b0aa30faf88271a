"""What a processor sees and leaves: a batch and its views."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, cast

import pytest
from faust.types import TP
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.work import ChangeCommitted
from streams.codec import Codec
from streams.errors import ProcessorError
from streams.turns.batch import GONE, Batch, current_batch, enter_batch, isolated, joined_batch
from streams.turns.stores import MemoryParts
from tests.streams.turns.fakes import FakeRecord, batch, records, table

IN = TP("in", 0)


def stored(**values: Any) -> Any:
    """Return a table whose partition 0 holds these values."""
    made = table("t")
    made.parts.apply(0, values, {}, 1)
    return made


# ---- layers


def test_a_view_looks_through_its_layers_newest_first() -> None:
    """Own writes hide newer uncommitted ones, these hide older ones, and these the committed partition."""
    counts = stored(a="committed", b="committed", c="committed", d="committed")
    newer, older = {"a": "newer", "b": "newer"}, {"a": "older", "b": "older", "c": "older"}
    view = batch(below=lambda _: (newer, older)).view(counts)
    view["a"] = "own"
    assert [view[k] for k in "abcd"] == ["own", "newer", "older", "committed"]
    assert sorted(view.items()) == [("a", "own"), ("b", "newer"), ("c", "older"), ("d", "committed")]


def test_a_deletion_hides_what_lies_below() -> None:
    """A key deleted in any layer is gone for those above it, until it is written again."""
    counts = stored(a=1, b=2)
    view = batch(below=lambda _: ({"a": GONE},)).view(counts)
    assert "a" not in view
    assert view.get("a", "none") == "none"
    with pytest.raises(KeyError):
        del view["a"]
    del view["b"]
    assert (view.pop("b", "none"), list(view), len(view)) == ("none", [], 0)
    view["a"] = 3
    assert view.items() == [("a", 3)]


def test_the_default_is_made_for_a_missing_key_and_not_stored() -> None:
    """`view[key]` asks the table's default, `get` and `in` do not, and nothing is written by reading."""
    counts = table(default=list)
    made = batch()
    view = made.view(counts)
    assert view["k"] == []
    assert view.get("k") is None
    assert "k" not in view
    assert made.seal(record_bytes_max=1_000).encoded == {}
    with pytest.raises(KeyError):
        batch().view(table())["k"]


def test_a_view_sees_its_own_partition_only() -> None:
    """Two partitions of one table have nothing in common."""
    counts = stored(a=1)
    assert batch(tp=TP("in", 1)).view(counts).items() == []
    assert batch(tp=IN).view(counts).items() == [("a", 1)]


def test_there_is_one_view_a_table() -> None:
    """Asking twice gives the same view, so writes are seen wherever the batch is passed."""
    made, counts, other = batch(), table(), table("other")
    assert made.view(counts) is made.view(counts)
    assert made.view(counts) is not made.view(other)


# ---- isolation


def test_changing_what_was_read_changes_nothing_stored() -> None:
    """A dict or list that a view hands out is the batch's own copy: it is stored only when it is set."""
    value = {"names": ["x"], "n": {"deep": [1]}}
    counts = stored(a=value, b=[1, 2])
    waiting = {"c": {"n": [1]}}
    made = batch(below=lambda _: (waiting,))
    view = made.view(counts)
    view["a"]["names"].append("y")
    view["a"]["n"]["deep"].append(2)
    view["b"].append(3)
    view["c"]["n"].append(2)
    assert (value, counts.parts.get(0, "b"), waiting) == ({"names": ["x"], "n": {"deep": [1]}}, [1, 2], {"c": {"n": [1]}})
    assert made.seal(record_bytes_max=1_000).encoded == {}
    assert batch(below=lambda _: (waiting,)).view(counts)["a"] == value


def test_changing_what_was_set_after_the_batch_changes_nothing_stored() -> None:
    """What is stored is as it was when the batch ended, whatever the processor later does with its own reference."""
    counts, made = table(), batch()
    mine = {"list": [1]}
    made.view(counts)["a"] = mine
    mine["list"].append(2)
    effects = made.seal(record_bytes_max=1_000)
    mine["list"].append(3)
    assert effects.writes[counts] == {"a": {"list": [1, 2]}}
    assert effects.encoded[counts] == {b'"a"': b'{"list":[1,2]}'}


def test_immutable_values_are_handed_out_as_they_are() -> None:
    """A table that promises not to change its values in place pays for no copy."""
    value = ("a", ("b",))
    counts = table(immutable_values=True)
    counts.parts.apply(0, {"k": value}, {}, 1)
    made = batch()
    assert made.view(counts)["k"] is value
    made.view(counts)["new"] = value
    assert made.seal(record_bytes_max=1_000).writes[counts]["new"] is value


class Odd:
    def __init__(self) -> None:
        self.inside = [1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Odd) and other.inside == self.inside

    __hash__ = None  # type: ignore[assignment]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3) | st.builds(Odd),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


def containers(value: Any) -> Iterator[int]:
    """Yield the identities of all that can be changed in place."""
    if isinstance(value, dict | list | Odd):
        yield id(value)
    for inner in (
        value.values()
        if isinstance(value, dict)
        else value
        if isinstance(value, list | tuple)
        else [value.inside]
        if isinstance(value, Odd)
        else ()
    ):
        yield from containers(inner)


@given(json_values)
def test_an_isolated_value_is_equal_and_shares_nothing(value: Any) -> None:
    """A copy has the same contents and types, and no container that can be changed in place."""
    copy = isolated(value)
    assert copy == value
    assert type(copy) is type(value)
    assert not set(containers(copy)) & set(containers(value))


# ---- a view is a dict

KEYS = st.sampled_from(["a", "b", "c", "d"])
LAYER = st.dictionaries(KEYS, st.integers(0, 9) | st.just(GONE) | st.lists(st.integers(0, 9), max_size=2))
STEPS = st.lists(
    st.tuples(st.just("set"), KEYS, st.integers(0, 9) | st.lists(st.integers(0, 9), max_size=2))
    | st.tuples(st.sampled_from(["del", "pop", "get", "in", "items"]), KEYS, st.none()),
    max_size=20,
)


@settings(max_examples=200, deadline=None)
@given(committed=LAYER, layers=st.lists(LAYER, max_size=3), steps=STEPS)
def test_a_view_is_a_dict_over_its_layers(
    committed: dict[str, Any], layers: list[dict[str, Any]], steps: list[tuple[str, str, Any]]
) -> None:
    """Whatever is done, a view answers as the merged dict does, and its encoded writes make the one out of the other."""
    counts = table()
    committed = {k: v for k, v in committed.items() if v is not GONE}
    counts.parts.apply(0, dict(committed), {}, 1)
    model = dict(committed)
    for layer in reversed(layers):
        model.update(layer)
    model = {k: v for k, v in model.items() if v is not GONE}
    before = dict(model)
    made = batch(below=lambda _: tuple(layers))
    view = made.view(counts)
    for what, key, value in steps:
        if what == "set":
            view[key] = model[key] = value
        elif what == "del":
            if key in model:
                del view[key], model[key]
            else:
                with pytest.raises(KeyError):
                    del view[key]
        elif what == "pop":
            assert view.pop(key, "none") == model.pop(key, "none")
        elif what == "get":
            assert view.get(key, "none") == model.get(key, "none")
        elif what == "in":
            assert (key in view) == (key in model)
        else:
            assert dict(view.items()) == model
            assert (set(view), len(view)) == (set(model), len(model))
    effects = made.seal(record_bytes_max=10_000)
    parts = MemoryParts(counts.codec)
    parts.apply(0, before, {}, 1)
    parts.load(0, cast(Any, [FakeRecord(2 + n, v, k) for n, (k, v) in enumerate(effects.encoded.get(counts, {}).items())]))
    assert dict(parts.items(0)) == model


# ---- after the end


def test_nothing_is_written_after_the_end() -> None:
    """A batch that has ended refuses writes, sends and new views, naming what was done."""
    made, counts = batch(), table()
    view = made.view(counts)
    view["a"] = 1
    made.waiting = 1
    made.finished("worker", None)
    with pytest.raises(ProcessorError, match="written after its batch ended"):
        view["a"] = 2
    with pytest.raises(ProcessorError, match="written after its batch ended"):
        del view["a"]
    with pytest.raises(ProcessorError, match="'out' was sent after its batch ended"):
        made.send("out", key=None, value=b"v")
    with pytest.raises(ProcessorError, match="'soon' was sent after its batch ended"):
        made.send_at_once("soon", key=None, value=b"v")
    with pytest.raises(ProcessorError, match="opened after its batch ended"):
        made.view(table("other"))
    assert (made.effects.outputs, made.effects.at_once) == ([], [])
    assert made.effects.writes[counts] == {"a": 1}


def test_a_batch_ends_when_its_last_processor_does() -> None:
    """Two processors on one topic share a batch: it ends once, with the first error."""
    made = batch()
    ended: list[Batch] = []
    made.on_end, made.waiting = ended.append, 2
    made.taken("a")
    made.taken("b")
    made.finished("b", ValueError("first"))
    assert (ended, made.held_by) == ([], {"a"})
    made.finished("a", ValueError("second"))
    made.finished("a", None)
    assert ended == [made]
    assert (str(made.error), made.failed_in) == ("first", "b")


def test_the_current_batch_is_the_one_in_hand() -> None:
    """Code below a processor finds its batch, until that ends."""
    made = batch()
    enter_batch(made)
    assert current_batch() is made
    made.ended = True
    assert current_batch() is None
    enter_batch(None)


def test_what_is_sent_at_once_is_kept_apart_in_order() -> None:
    """It is not an output of the turn; its place and its headers are as given."""
    made = batch()
    made.send("out", key=b"k", value=b"1")
    made.send_at_once("soon", key=b"k", value=b"2", headers=[("h", b"x")], partition=3)
    made.send_at_once("soon", key=None, value=None)
    effects = made.seal(record_bytes_max=1_000)
    assert effects.outputs == [("out", b"k", b"1", -1, None)]
    assert effects.at_once == [("soon", b"k", b"2", 3, [("h", b"x")]), ("soon", None, None, -1, None)]


def test_the_earliest_wake_up_wins() -> None:
    """Several requests for a timer become one, at the earliest time."""
    made = batch()
    for ms in (500, 300, 400):
        made.wake_at(ms)
    assert made.due_ms == 300


# ---- sealing


@pytest.mark.parametrize(
    ("send", "says"),
    [
        ({"key": "k", "value": b"v"}, r"output to 'out': key and value are bytes or None, not str and bytes"),
        ({"key": b"k", "value": {"a": 1}}, r"output to 'out': key and value are bytes or None, not bytes and dict"),
        ({"key": b"k", "value": b"v" * 999}, r"output to 'out' has 1512 bytes; at most 1000"),
        ({"key": b"k", "value": b"v", "headers": [("h", b"x" * 999)]}, r"output to 'out' has \d+ bytes"),
        ({"key": b"k", "value": b"v", "headers": [("h", 7)]}, r"output to 'out': headers"),
        ({"key": b"k", "value": b"v", "headers": [(7, b"x")]}, r"output to 'out': headers"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused_with_their_topic(send: dict[str, Any], says: str) -> None:
    """A wrong output is the failure of the batch that made it, not of the turn; one that does not wait for the turn too."""
    made, prompt = batch(), batch()
    made.send("out", **send)
    prompt.send_at_once("out", **send)
    for one in (made, prompt):
        with pytest.raises(ProcessorError, match=says):
            one.seal(record_bytes_max=1_000)


def test_a_forwarded_header_may_have_no_value() -> None:
    """Kafka allows a header without a value, so passing on a record's headers must not fail."""
    made = batch()
    made.send("out", key=None, value=None, headers=cast(Any, [("h", None), ("s", b"1")]))
    assert made.seal(record_bytes_max=1_000).outputs == [("out", None, None, -1, [("h", None), ("s", b"1")])]


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("k", {1, 2}, r"table 'totals': key 'k': set cannot be stored"),
        ("k", threading.Lock(), r"table 'totals': key 'k': lock cannot be stored"),
        ("k", {1: "number as key"}, r"table 'totals': key 'k': dict cannot be stored"),
        ("k", 1 << 70, r"table 'totals': key 'k': int cannot be stored"),
        (b"bytes", 1, r"table 'totals': key b'bytes'"),
        ("k", "v" * 1_000, r"table 'totals': key b'\"k\"': the value has more than 1000 bytes"),
    ],
)
def test_table_writes_that_cannot_be_stored_are_refused_with_their_place(key: Any, value: Any, says: str) -> None:
    """The error names table and key."""
    made = batch()
    made.view(table("totals"))[key] = value
    with pytest.raises(ProcessorError, match=says):
        made.seal(record_bytes_max=1_000)


def test_a_batch_that_did_nothing_is_not_visible() -> None:
    """A timer without effects needs no kafka transaction; records, outputs and writes do."""
    assert not batch([]).seal(record_bytes_max=1_000).visible
    assert batch([1]).seal(record_bytes_max=1_000).visible
    prompt = batch([])
    prompt.send_at_once("out", key=None, value=b"")
    assert not prompt.seal(record_bytes_max=1_000).visible, "it needs no kafka transaction"
    sending, writing = batch([]), batch([])
    sending.send("out", key=None, value=b"")
    writing.view(table())["k"] = 1
    effects = [sending.seal(record_bytes_max=1_000), writing.seal(record_bytes_max=1_000)]
    assert all(e.visible for e in effects)
    assert [output for one in effects for output in one.outputs] == [("out", None, b"", -1, None)]


# ---- typed events

CHANGE = ChangeCommitted(
    agent="ann", task="t1", ts=1_700_000_000_000, arrived=1_700_000_000_500, files=1, added=1, removed=0, reverts=None, seq=1
)


def typed(offsets: list[int], *, now_ms: int = 1_000) -> Batch:
    """Return a batch of events."""
    codec = Codec()
    found = []
    for n in offsets:
        _, key, value, headers = codec.encode(CHANGE.stamped(id=f"e{n}", source="/test", time_ms=1))
        found.append(FakeRecord(n, value, key, headers=tuple(headers)))
    return Batch(
        IN, cast(Any, found), now_ms=now_ms, next_offset=offsets[-1] + 1 if offsets else 0, below=lambda _: (), codec=codec
    )


def published(cuts: list[list[int]], per_record: int = 2) -> list[str]:
    """Return the ids of what a processor publishes when the same log is cut into batches like this."""
    ids = []
    for offsets in cuts:
        made = typed(offsets)
        ids += [made.publish(CHANGE, cause=record, topic="out").id for record in made.records for _ in range(per_record)]
    return ids


@settings(max_examples=50, deadline=None)
@given(offsets=st.lists(st.integers(0, 99), min_size=1, max_size=8, unique=True).map(sorted), cuts=st.sets(st.integers(1, 7)))
def test_ids_do_not_depend_on_how_the_log_is_cut(offsets: list[int], cuts: set[int]) -> None:
    """A published event's id is its cause's position and a number, the same in one batch and in many."""
    edges = [0, *sorted(c for c in cuts if c < len(offsets)), len(offsets)]
    pieces = [offsets[a:b] for a, b in pairwise(edges)]
    ids = published(pieces)
    assert ids == published([offsets])
    assert ids == [f"in/0/{n}/{i}" for n in offsets for i in (1, 2)]


def test_ids_are_unique_when_causes_take_turns() -> None:
    """A processor that comes back to an earlier cause does not repeat an id."""
    made = typed([4, 5])
    first, second = made.records
    ids = [made.publish(CHANGE, cause=cause, topic="out").id for cause in (first, second, None, first, None)]
    assert len(set(ids)) == 5
    assert [ids[0], ids[3]] == ["in/0/4/1", "in/0/4/2"]


def test_a_published_event_carries_its_cause() -> None:
    """Correlation, causation and source are those of the cause, time the turn's, topic and key the event's unless given."""
    made = typed([4], now_ms=7_000)
    sent = made.publish(CHANGE, cause=made.records[0])
    assert (sent.causation_id, sent.correlation_id, sent.time_ms, sent.source) == ("e4", "e4", 7_000, "/antiphon/in/0/4")
    made.publish(CHANGE, topic="else", key=b"other", partition=3)
    (at, key, _, partition, headers), other = made.effects.outputs
    assert (at, key, partition) == (ChangeCommitted.topic, b"ann", -1)
    assert dict(headers or ())["ce_causationid"] == b"e4"
    assert (other[0], other[1], other[3]) == ("else", b"other", 3)


def test_records_of_other_types_are_skipped_undecoded() -> None:
    """`events` yields the asked types with their records; without types it yields all."""
    made = typed([1, 2])
    assert [(r.offset, e.agent) for r, e in made.events(ChangeCommitted)] == [(1, "ann"), (2, "ann")]
    assert len(list(made.events())) == 2

    class Elsewhere(ChangeCommitted):
        event_type = "something.else"

    assert list(made.events(Elsewhere)) == []


def test_a_batch_knows_its_place() -> None:
    """Topic, partition and number of records."""
    made = Batch(TP("in", 3), cast(Any, records([7, 8])), now_ms=1, next_offset=9, below=lambda _: (), codec=cast(Any, None))
    assert (made.topic, made.partition, len(made), made.effects.next_offset, made.effects.tp) == ("in", 3, 2, 9, TP("in", 3))


def test_a_send_of_a_batch_that_was_given_up_reaches_nobody() -> None:
    """Faust's own sends find the batch ended and raise, instead of leaving at once, outside every transaction."""
    given_up = batch()
    enter_batch(given_up)
    try:
        assert joined_batch() is given_up
        given_up.ended = True
        with pytest.raises(ProcessorError, match="sent after its batch"):
            joined_batch()
        enter_batch(None)
        assert joined_batch() is None
    finally:
        enter_batch(None)
